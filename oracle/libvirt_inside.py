#!/usr/bin/env python3
"""The part of libvirt_capture.py that runs inside the root: starts libvirtd under the shim, asks it, and writes the answers down.

It runs on the root's own Python and libvirt binding, and knows nothing of vcpuid. README.md tells what each request asks for.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt

NOW = Path("/lvcap/now")
"""This run's folder: job.json and the host go in, answers.jsonl and libvirtd's logs come out."""

QEMU = "/usr/bin/qemu-system-x86_64.real"
CAPABILITIES = Path("/var/cache/libvirt/qemu/capabilities")
LOGS = Path("/var/log/libvirt/qemu")

DAEMON_CONFIGURATION = f"""listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
auth_unix_ro = "none"
log_level = 3
log_outputs = "3:file:{NOW}/libvirtd.log"
"""

QEMU_CONFIGURATION = """user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
dynamic_ownership = 0
"""

DOMAIN = (
    "<domain type='{virt}'><name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>{vcpus}</vcpu>"
    "<os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/><apic/>{features}</features>{cpu}{clock}"
    "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
)
"""A domain with as little as may be beside its CPU."""

Request = dict[str, Any]


class StartError(Exception):
    """A start that failed: libvirt's error, and what QEMU's log has of it."""

    def __init__(self, error: Any, log: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error, self.log = error, log


def flat(element: ElementTree.Element) -> str:
    """Write XML without indentation."""
    for each in element.iter():
        if each.text is not None and not each.text.strip():
            each.text = None
        each.tail = None
    return ElementTree.tostring(element, encoding="unicode")


def part(xml: str, path: str, drop: Sequence[str] = ()) -> str | None:
    """Give the element at `path` without the children named `drop`; None where there is none."""
    found = ElementTree.fromstring(xml).find(path)
    if found is None:
        return None
    for tag in drop:
        for child in found.findall(tag):
            found.remove(child)
    return flat(found)


def domain_xml(request: Request, name: str = "t") -> str:
    """Give the domain of an argv or start request."""
    given = {"virt": "kvm", "memory": 64, "vcpus": 1, "features": "", "cpu": "", "clock": "<clock offset='utc'/>"}
    return DOMAIN.format_map({**given, **request, "name": name})


def plain(text: str) -> str:
    """Take away what differs from run to run: QEMU's times, our name of the domain, and our name of the program."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", "", text).replace("qemu-system-x86_64.real", "qemu-system-x86_64")
    return re.sub(r"\(vm='t\d+'\)", "(vm='t')", text)


class Answers:
    """Asks one connection: a method for each request's `do`."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._started = 0
        self._endings: list[concurrent.futures.Future[Any]] = []
        self._pool = concurrent.futures.ThreadPoolExecutor(8)
        self._choices: dict[str, list[str]] = {}

    def capabilities(self, _request: Request) -> dict[str, Any]:
        """virConnectGetCapabilities: the host's <cpu>, without what is the machine's."""
        return {"cpu": part(self.connection.getCapabilities(), "host/cpu", ("topology", "pages"))}

    def models(self, _request: Request) -> dict[str, Any]:
        """virConnectGetCPUModelNames."""
        return {"models": self.connection.getCPUModelNames("x86_64")}

    def domcapabilities(self, request: Request) -> dict[str, Any]:
        """virConnectGetDomainCapabilities."""
        arguments = (None, "x86_64", request["machine"], request.get("virt", "kvm"), request.get("flags", 0))
        root = ElementTree.fromstring(self.connection.getDomainCapabilities(*arguments))
        cpu, hyperv = root.find("cpu"), root.find("features/hyperv")
        assert cpu is not None  # every driver writes it
        answer = {"machine": root.findtext("machine"), "cpu": flat(cpu)}
        return answer if hyperv is None else {**answer, "hyperv": flat(hyperv)}

    def qemu_host(self, request: Request) -> dict[str, Any] | None:
        """What QEMU told libvirt, from libvirt's own cache: the CPU "host" with all its properties, and the models with their blockers."""
        virt = request.get("virt", "kvm")
        for path in CAPABILITIES.glob("*.xml"):
            root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
            host = root.find(f"hostCPU[@type='{virt}']")
            if host is None:
                continue
            blockers = {
                cpu.get("name"): [blocker.get("name") for blocker in cpu.findall("blocker")]
                for cpu in root.findall(f"cpu[@type='{virt}']")
                if cpu.get("usable") == "no"
            }
            properties = {
                each.get("name"): [each.get("value"), each.get("migratable")] if each.get("migratable") else each.get("value")
                for each in host.findall("property")
            }
            return {
                "blockers": blockers,
                "deprecated": [cpu.get("name") for cpu in root.findall(f"cpu[@type='{virt}'][@deprecated='yes']")],
                "usable": [cpu.get("name") for cpu in root.findall(f"cpu[@type='{virt}'][@usable='yes']")],
                "base": host.get("model"),
                "migratability": host.get("migratability"),
                "properties": properties,
            }
        return None

    def argv(self, request: Request) -> dict[str, str]:
        """virConnectDomainXMLToNative: those of QEMU's arguments that are about the CPU."""
        words = shlex.split(self.connection.domainXMLToNative("qemu-argv", domain_xml(request), 0))
        return {flag: words[words.index(flag) + 1] for flag in ("-machine", "-accel", "-cpu", "-smp") if flag in words}

    def start(self, request: Request) -> dict[str, Any]:
        """virDomainCreateXML, paused: the live <cpu>, the migratable one where it differs, and QEMU's -cpu and words."""
        self._started += 1
        name = f"t{self._started}"
        try:
            domain = self.connection.createXML(domain_xml(request, name), libvirt.VIR_DOMAIN_START_PAUSED)
        except libvirt.libvirtError as error:
            raise StartError(error, self._log(name)) from None
        try:
            live = {"cpu": part(domain.XMLDesc(0), "cpu")}
            migratable = part(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE), "cpu")
            return {**live, **({"migratable": migratable} if migratable != live["cpu"] else {}), **self._log(name)}
        finally:
            self._endings.append(self._pool.submit(domain.destroy))  # takes a second, on which nothing depends

    def _log(self, name: str) -> dict[str, Any]:
        """Read off QEMU's log its -cpu argument, and what it had to say."""
        path = LOGS / f"{name}.log"
        if not path.exists():
            return {}
        text = path.read_text(encoding="utf-8")
        cpu = re.findall(r"^-cpu (\S.*?) \\$", text, re.MULTILINE)
        own = (line for line in text.splitlines() if re.match(r"^\S+Z qemu-system", line))
        said = [plain(line) for line in own if "terminating on signal" not in line]
        return {**({"-cpu": cpu[-1].strip("'")} if cpu else {}), **({"log": said} if said else {})}

    def compare(self, request: Request) -> dict[str, Any]:
        """virConnectCompareCPU."""
        return {"result": self.connection.compareCPU(request["cpu"], request.get("flags", 0))}

    def baseline(self, request: Request) -> dict[str, Any]:
        """virConnectBaselineCPU."""
        return {"cpu": flat(ElementTree.fromstring(self.connection.baselineCPU(request["cpus"], request.get("flags", 0))))}

    def hypervisor_compare(self, request: Request) -> dict[str, Any]:
        """virConnectCompareHypervisorCPU."""
        arguments = (None, "x86_64", request["machine"], request.get("virt", "kvm"), request["cpu"], request.get("flags", 0))
        return {"result": self.connection.compareHypervisorCPU(*arguments)}

    def hypervisor_baseline(self, request: Request) -> dict[str, Any]:
        """virConnectBaselineHypervisorCPU."""
        arguments = (None, "x86_64", request["machine"], request.get("virt", "kvm"), request["cpus"], request.get("flags", 0))
        return {"cpu": flat(ElementTree.fromstring(self.connection.baselineHypervisorCPU(*arguments)))}

    def fill(self, request: Request, host: str) -> Request:
        """Replace the tokens in a request by what fits the host.

        @USABLE1@ and @UNUSABLE1@ are models, @HOSTMODEL@ is host-model's, @HAS1@ and @LACKS1@ are features, @HOSTCPU@ is the CPU of virsh
        capabilities, @HOSTMODELCPU@ host-model's CPU of virsh domcapabilities. The choice follows from the host's name and the token.
        """
        text = json.dumps(request)
        if "@" not in text:
            return request
        self._choices = self._choices or self._find_choices()

        def choose(token: re.Match[str]) -> str:
            some = self._choices[token[1]]
            number = int(hashlib.sha256(f"{host.split('@')[0]} {token[0]}".encode()).hexdigest(), 16)
            return json.dumps(some[number % len(some)])[1:-1]

        filled: Request = json.loads(re.sub(r"@([A-Z]+)\d*@", choose, text))
        return filled

    def _find_choices(self) -> dict[str, list[str]]:
        root = ElementTree.fromstring(self.domcapabilities({"machine": "q35"})["cpu"])
        models = {
            usable: [m.text or "" for m in root.findall("mode[@name='custom']/model") if m.get("usable") == usable]
            for usable in ("yes", "no")
        }
        model = root.find("mode[@name='host-model']")
        assert model is not None  # libvirt lists every mode, supported or not
        required = [each.get("name") or "" for each in model.findall("feature") if each.get("policy") == "require"]
        disabled = {each.get("name") or "" for each in model.findall("feature") if each.get("policy") == "disable"}
        blocking = {each.get("name") or "" for each in root.findall(".//blockers/feature")}
        model.tag = "cpu"
        model.attrib.clear()
        model.attrib.update(mode="custom", match="exact")
        return {
            "USABLE": models["yes"] or ["qemu64"],
            "UNUSABLE": models["no"] or ["athlon"],
            "HAS": [*required, "sse2", "apic", "lm", "nx", "cx16", "syscall"],
            "LACKS": sorted(disabled | blocking | {"3dnow", "xop"}),
            "HOSTMODEL": [model.findtext("model") or ""],
            "HOSTCPU": [self.capabilities({})["cpu"]],
            "HOSTMODELCPU": [flat(model)],
        }

    def close(self) -> None:
        """Wait for the domains to be gone."""
        for ending in self._endings:
            with contextlib.suppress(libvirt.libvirtError):
                ending.result()
        self.connection.close()


@contextlib.contextmanager
def daemon(sites: str) -> Iterator[Any]:
    """Run libvirtd under the shim, and give a connection to it."""
    for folder in ("/run/lock", "/run/libvirt", str(LOGS), "/etc/libvirt"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    (NOW / "libvirtd.conf").write_text(DAEMON_CONFIGURATION, encoding="utf-8")
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONFIGURATION, encoding="utf-8")
    shim = {"LD_PRELOAD": "/lvcap/shim.so", "KVMSHIM_HOST": f"{NOW}/host", "KVMSHIM_SITES": sites}
    with (NOW / "libvirtd.err").open("w", encoding="utf-8") as errors:
        command = ["/usr/sbin/libvirtd", "-f", f"{NOW}/libvirtd.conf"]
        environment = {**os.environ, **shim, "LC_ALL": "C"}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=subprocess.STDOUT)
    try:
        yield connect(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def connect(process: subprocess.Popen[bytes]) -> Any:
    """Connect as soon as libvirtd listens; ends the program where it does not come up."""
    libvirt.registerErrorHandler(lambda *_: None, None)  # else it prints every error, expected ones too
    for _ in range(150):
        try:
            return libvirt.open("qemu:///system")
        except libvirt.libvirtError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    sys.exit(f"libvirtd does not answer: {(NOW / 'libvirtd.err').read_text(encoding='utf-8')[-1500:]}")


def error_of(error: Any, log: dict[str, Any]) -> dict[str, Any]:
    """Give what libvirt says of an error, and QEMU's log of a failed start."""
    return {"code": error.get_error_code(), "domain": error.get_error_domain(), "message": plain(error.get_error_message()), **log}


def main() -> None:
    """Answer the requests of the job, a row each."""
    job = json.loads((NOW / "job.json").read_text(encoding="utf-8"))
    qemu = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout.split()[3]
    with daemon(job["sites"]) as connection, (NOW / "answers.jsonl").open("w", encoding="utf-8") as out:
        number = connection.getLibVersion()
        release = f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
        answers = Answers(connection)
        for request in job["requests"]:
            row = {"host": job["name"], "libvirt": release, "qemu": qemu, "machine": request.get("machine")}
            filled = request
            try:
                filled = answers.fill(request, job["name"])
                outcome = {"answer": getattr(answers, filled["do"])(filled)}
            except StartError as failed:
                outcome = {"error": error_of(failed.error, failed.log)}
            except libvirt.libvirtError as error:
                outcome = {"error": error_of(error, {})}
            asked = {key: value for key, value in filled.items() if key != "machine"}
            out.write(json.dumps({**row, "request": asked, **outcome}) + "\n")
        answers.close()


if __name__ == "__main__":
    main()
