"""The libvirt that is installed here, asked about this machine, and the same asked of vcpuid."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support import ask_libvirt
from vcpuid import Stack, read
from vcpuid.errors import LibvirtError
from vcpuid.kvm.answers import kvm_says
from vcpuid.libvirt import Libvirt, connect, virsh
from vcpuid.libvirt.daemon import EMULATOR
from vcpuid.libvirt.layout import laid_out
from vcpuid.live.clock import tsc
from vcpuid.live.installed import kernel_release, libvirt_release, qemu_release
from vcpuid.qemu import KvmHost
from vcpuid.releases import libvirt as tables_of
from vcpuid.setup import Setup

pytestmark = [pytest.mark.libvirt, pytest.mark.kvm, pytest.mark.qemu, pytest.mark.x86, pytest.mark.long]

Request = dict[str, Any]

DOMAIN = """<domain type='{virt}'><name>t</name><memory unit='MiB'>64</memory><vcpu>{vcpus}</vcpu>
<os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/><apic/>{features}</features>{cpu}<clock offset='utc'/>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""


def domain(cpu: str, virt: str = "kvm", machine: str = "q35", vcpus: int = 1, features: str = "") -> str:
    return DOMAIN.format(cpu=cpu, virt=virt, machine=machine, vcpus=vcpus, features=features)


def custom(model: str, *features: str, more: str = "") -> str:
    listed = "".join(f"<feature policy='{policy}' name='{name}'/>" for policy, name in (feature.split() for feature in features))
    return f"<cpu mode='custom' match='exact'{more}><model>{model}</model>{listed}</cpu>"


def host(model: str, *features: str) -> str:
    return f"<cpu><arch>x86_64</arch><model>{model}</model>" + "".join(f"<feature name='{name}'/>" for name in features) + "</cpu>"


CPUS = (
    "", "<cpu mode='host-model'/>", "<cpu mode='host-passthrough'/>", "<cpu mode='host-passthrough' migratable='off'/>",
    "<cpu mode='maximum'/>", custom("qemu64"), custom("kvm64", more=" check='none'"), custom("Nehalem"),
    custom("EPYC", more=" check='none'"),
    custom("EPYC-Milan", "disable svm", "optional avx2", more=" check='none'"), custom("qemu64", "require invtsc", more=" check='none'"),
    custom("qemu64", "require xop"), custom("no-such-model"), custom("qemu64", "require no-such-feature"),
    custom("qemu64", "forbid sse2", more=" check='partial'"), custom("486", more=" check='none'"),
)  # fmt: skip
STARTED = (
    "", "<cpu mode='host-passthrough'><feature policy='disable' name='arch-capabilities'/></cpu>",
    custom("kvm64", more=" check='none'"), custom("qemu64", more=" check='none'"), custom("EPYC", more=" check='none'"),
    custom("kvm64", "require invtsc", more=" check='none'"), custom("kvm64", more=" check='full'"), custom("Haswell", more=" check='full'"),
)  # fmt: skip
"""CPUs without arch-capabilities: there are KVMs that refuse its MSR, and QEMU then aborts."""
COMPARED = (custom("qemu64"), custom("Haswell", "require xop"), host("kvm64"), host("EPYC", "avx512f"), "<cpu/>", custom("486"))

REQUESTS: tuple[Request, ...] = (
    {"do": "capabilities"},
    {"do": "models"},
    *({"do": "domcapabilities", "machine": machine} for machine in ("q35", "pc", "no-such-machine")),
    {"do": "domcapabilities", "virt": "qemu"},
    {"do": "domcapabilities", "flags": 1},
    *({"do": "argv", "domain": domain(cpu)} for cpu in CPUS),
    *({"do": "argv", "domain": domain(cpu, virt="qemu", machine="pc", vcpus=2)} for cpu in CPUS),
    {"do": "argv", "domain": domain(custom("qemu64"), features="<hyperv><relaxed state='on'/></hyperv><kvm><hidden state='on'/></kvm>")},
    {"do": "argv", "domain": "<network/>"},
    *({"do": "start", "domain": domain(cpu)} for cpu in STARTED),
    *({"do": do, "cpu": cpu, "flags": flags} for do in ("compare", "hypervisor_compare") for cpu in COMPARED for flags in (0, 1)),
    *({"do": "baseline", "cpus": [host("Haswell"), host("EPYC")], "flags": flags} for flags in (0, 1, 2)),
    {"do": "baseline", "cpus": [custom("Haswell")]},
    *({"do": "hypervisor_baseline", "cpus": cpus} for cpus in ([host("Haswell")], [custom("EPYC"), host("kvm64", "avx")])),
)


@cache
def ours() -> Libvirt:
    release, qemu = libvirt_release(), qemu_release()
    if release is None or not list(Path("/usr").glob("lib*/**/libvirt/connection-driver/libvirt_driver_qemu.so")):
        pytest.skip("there is no libvirt with its QEMU driver (Debian: libvirt-daemon-driver-qemu)")
    if (remark := tables_of(release).remark) is not None:
        pytest.skip(remark)
    setup = Setup.of(read("kvm"), Stack(kernel=kernel_release(), qemu=qemu))
    if setup.vmm.remark is not None:
        pytest.skip(setup.vmm.remark)
    khz, scaling = tsc()
    return connect(setup, release, KvmHost(xcr0=kvm_says(setup).xcr0, tsc_khz=khz, tsc_scaling=scaling))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    ours()
    root = tempfile.mkdtemp(prefix="lv")  # a Unix socket's path has at most 107 characters, which pytest's folders are too long for
    command = [sys.executable, ask_libvirt.__file__, root]
    if os.geteuid() == 0:
        command = ["unshare", "-m", "sh", "-c", _alone(tmp_path_factory.mktemp("etc")), "sh", *command]
    try:
        done = subprocess.run(command, input=json.dumps(REQUESTS), capture_output=True, text=True, timeout=300)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if not rows and "Operation not permitted" in done.stderr:
        pytest.skip("no mount namespace to be had")
    assert len(rows) == len(REQUESTS), done.stderr[-2000:]
    return rows


def _alone(folder: Path) -> str:
    """A shell script that gives what follows the user that libvirt's daemon has, and no MSRs of the processor's own."""
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin"), ("group", "libvirt-qemu:x:64055:")):
        text = Path("/etc", name).read_text(encoding="utf-8")
        (folder / name).write_text(text if "libvirt-qemu:" in text else f"{text}{line}\n", encoding="utf-8")
    hide = "[ ! -d /dev/cpu ] || mount -t tmpfs tmpfs /dev/cpu; "
    return f'set -e; mount --bind {folder}/passwd /etc/passwd; mount --bind {folder}/group /etc/group; {hide}exec "$@"'


def plain(message: str) -> str:
    """A message without what differs from run to run."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", "", message)


def answer(request: Request) -> dict[str, Any]:
    try:
        found = ours().answer(request)
    except LibvirtError as error:
        return {"error": {"code": error.code, "domain": error.domain, "message": error.message}}
    return {"answer": {name: value for name, value in found.items() if request["do"] != "start" or name in ("cpu", "migratable")}}


def of_virsh(request: Request, told: dict[str, Any]) -> list[str]:
    """What the verbs print of an answer."""
    if request["do"] == "capabilities":
        return virsh.capabilities(told)
    if request["do"] == "domcapabilities":
        return virsh.domcapabilities(told, request.get("virt", "kvm"), EMULATOR)
    return laid_out(told["cpu"])


WRITTEN = [
    n for n, request in enumerate(REQUESTS) if request["do"] in ("capabilities", "domcapabilities", "baseline", "hypervisor_baseline")
]


@pytest.mark.parametrize("number", WRITTEN)
def test_each_line_that_the_verbs_print_is_one_of_libvirts_in_its_order(number: int, theirs: list[dict[str, Any]]) -> None:
    row = theirs[number]
    if "error" in row:
        return
    lines = iter(row["answer"]["text"].splitlines())
    printed = of_virsh(REQUESTS[number], row["answer"])
    assert all(line in lines for line in printed)
    assert len(printed) > 3


@pytest.mark.conformance("live libvirt")
@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=[f"{n}-{request['do']}" for n, request in enumerate(REQUESTS)])
def test_libvirt_here_answers_as_ours_does(number: int, theirs: list[dict[str, Any]]) -> None:
    row = copy.deepcopy(theirs[number])
    if "error" in row:
        row["error"]["message"] = plain(row["error"]["message"])
    row.get("answer", {}).pop("text", None)
    assert answer(REQUESTS[number]) == row
