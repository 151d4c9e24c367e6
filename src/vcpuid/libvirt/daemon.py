"""libvirt with its QEMU on a host: what it finds out at its start, and its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from vcpuid.errors import InputError, QemuError
from vcpuid.formats.documents import parse_xml
from vcpuid.kvm.answers import kvm_says
from vcpuid.libvirt import baseline as baselines
from vcpuid.libvirt import capabilities, compare, domain, guest, realized, refusal
from vcpuid.libvirt.cpu_map import CpuMap, cpu_map
from vcpuid.libvirt.definition import CpuDef
from vcpuid.libvirt.host_models import HostModels, expanded
from vcpuid.libvirt.live import Running
from vcpuid.libvirt.reading import Kind, read
from vcpuid.libvirt.request import Request, cpus_of, domain_of, flags_of, is_tcg, xml_of
from vcpuid.libvirt.silicon import address_bits, processor
from vcpuid.libvirt.tcg import Tcg
from vcpuid.libvirt.told import NO_HYPERV, tell
from vcpuid.libvirt.update import drop_ignored
from vcpuid.libvirt.writing import text, write
from vcpuid.qemu import KvmHost
from vcpuid.qemu.catalog import resolve_machine
from vcpuid.setup import Setup

Answer = dict[str, Any]

EXPAND_FEATURES, MIGRATABLE, IGNORE_HOST = 1, 2, 4
"""Flags of virConnectBaselineCPU and virConnectBaselineHypervisorCPU."""
FAIL_INCOMPATIBLE, VALIDATE_XML = 1, 2
"""Flags of virConnectCompareCPU and virConnectCompareHypervisorCPU."""

EMULATOR = "/usr/bin/qemu-system-x86_64"
"""The program that libvirt starts where nobody names one."""


class Libvirt:
    """A libvirt with its QEMU on a host: what it asks at its start, and its answers. Requests and answers are those of `ask`.

    `kvm` is what else is asked of KVM; without it a QEMU that is started may use all of XSAVE's components that KVM has, as on Linux, where
    it asks for the permission.
    """

    def __init__(self, setup: Setup, release: str, kvm: KvmHost | None) -> None:
        self.setup = setup
        self.known: CpuMap = cpu_map(release)
        self.says = kvm_says(setup)
        self.kvm = kvm or KvmHost()
        self.running = kvm or KvmHost(xcr0=self.says.xcr0)

    @cached_property
    def by_kvm(self) -> HostModels:
        """The host's CPUs under KVM."""
        return HostModels(tell(self.setup, self.known, self.kvm.xcr0), self.known, lambda: processor(self.says, self.known))

    @cached_property
    def tcg(self) -> Tcg:
        """QEMU without KVM."""
        return Tcg(self.setup.vmm.tables, self.known)

    @cached_property
    def by_tcg(self) -> HostModels:
        """The host's CPUs under TCG: on no host another."""
        return HostModels(self.tcg.told, self.known)

    @cached_property
    def host(self) -> CpuDef:
        """The host's CPU of capabilities."""
        return capabilities.host_cpu(self.says, self.known, self.kvm)

    def hosts(self, request: Request) -> HostModels:
        """Return the host's CPUs under the hypervisor of a request."""
        return self.by_tcg if is_tcg(request) else self.by_kvm

    def answer(self, request: Request) -> Answer:
        """Answer a request; raises LibvirtError, and InputError for one that is none."""
        do = request.get("do")
        if do not in _ANSWERS:
            raise InputError(f"{str(do)[:40]!r} is none of libvirt's calls: {', '.join(_ANSWERS)}")
        return _ANSWERS[do](self, request)

    def capabilities(self, request: Request) -> Answer:
        """virConnectGetCapabilities."""
        return {"cpu": text(write(self.host, self.known.release))}

    def models(self, request: Request) -> Answer:
        """virConnectGetCPUModelNames."""
        return {"models": list(self.known.models)}

    def domcapabilities(self, request: Request) -> Answer:
        """virConnectGetDomainCapabilities."""
        release, hosts = self.known.release, self.hosts(request)
        flags = flags_of(request, 7 if release >= (12, 9) else 1 if release >= (11, 0) else 0, "qemuConnectGetDomainCapabilities")
        tcg, machine = is_tcg(request), self._supported(request)
        cpu = capabilities.domain_cpu(hosts, bits=address_bits(self.says), tcg=tcg, flags=flags)
        found: Answer = {"machine": machine, "cpu": text(cpu)}
        # What QEMU told under KVM is kept for TCG as well (virQEMUCapsProbeHypervCapabilities).
        found["hyperv"] = text(capabilities.hyperv_element(self.by_kvm.told.hyperv or NO_HYPERV, release))
        return found

    def planned(self, request: Request, running: str | None = None, *, unchecked: bool = False) -> guest.Planned:
        """Work out how a request's domain would be started, or taken over where it runs elsewhere, with that <cpu>.

        `unchecked` is as in `vcpuid.libvirt.guest.plan`.
        """
        asked = domain.read(domain_of(request), self.known.release)
        hosts = self.by_tcg if asked.virt == "qemu" else self.by_kvm
        machine = self._machine(asked.machine or self._asked_machine(request))
        cpu = None if running is None else self._cpu(running, "guest")
        return guest.plan(asked, hosts, machine, address_bits(self.says), cpu, unchecked=unchecked)

    def started(self, request: Request, running: str | None = None) -> guest.Started:
        """Start a request's domain, or take it over."""
        return self.started_by(self.planned(request, running))

    def started_by(self, planned: guest.Planned) -> guest.Started:
        """Start a domain as it is planned."""
        hosts = self.by_tcg if planned.domain.virt == "qemu" else self.by_kvm
        return guest.start(planned, hosts, lambda cpu, smp: self._realize(planned, cpu, smp))

    def realized(self, planned: guest.Planned) -> Running:
        """Return what QEMU makes of a domain's CPU; raises QemuError."""
        return self._realize(planned, planned.argument or "", planned.smp)[0]

    def _realize(self, planned: guest.Planned, cpu: str, smp: str) -> tuple[Running, tuple[str, ...]]:
        if planned.domain.virt == "qemu":
            return self.tcg.run(cpu, planned.machine)
        return realized.run(replace(self.setup, machine=planned.machine, smp=smp), self.running, self.known, cpu)

    def argv(self, request: Request) -> Answer:
        """virConnectDomainXMLToNative."""
        return dict(self.planned(request).arguments(self.known.release))

    def start(self, request: Request) -> Answer:
        """virDomainCreateXML."""
        done, release = self.started(request), self.known.release
        found: Answer = {"cpu": text(write(done.live, release))}
        kept = text(write(done.migratable, release))
        if kept != found["cpu"]:
            found["migratable"] = kept
        if done.planned.argument is not None:
            found["-cpu"] = done.planned.argument
        if done.log:
            found["log"] = list(done.log)
        return found

    def compare(self, request: Request) -> Answer:
        """virConnectCompareCPU."""
        flags = _compare_flags(request, "qemuConnectCompareCPU")
        cpu = self._cpu(xml_of(request, "cpu"), "auto")
        return _compared(compare.compare(self.host, cpu, self.known), flags)

    def hypervisor_compare(self, request: Request) -> Answer:
        """virConnectCompareHypervisorCPU."""
        flags, hosts = _compare_flags(request, "qemuConnectCompareHypervisorCPU"), self.hosts(request)
        self._supported(request)
        cpu = self._cpu(xml_of(request, "cpu"), "auto")
        return _compared(compare.check(cpu, hosts, hosts.reported), flags)

    def baseline(self, request: Request) -> Answer:
        """virConnectBaselineCPU."""
        flags = flags_of(request, 3, "qemuConnectBaselineCPU")
        cpus = [self._cpu(cpu, "host") for cpu in cpus_of(request)]
        found = baselines.baseline(cpus, self.known, migratable=bool(flags & MIGRATABLE))
        drop_ignored(found, self.known)
        if flags & EXPAND_FEATURES:
            found = expanded(found, self.known)
        return self._written(found)

    def hypervisor_baseline(self, request: Request) -> Answer:
        """virConnectBaselineHypervisorCPU."""
        release, hosts = self.known.release, self.hosts(request)
        flags = flags_of(request, 7 if release >= (12, 9) else 3, "qemuConnectBaselineHypervisorCPU")
        cpus = [self._cpu(cpu, "auto") for cpu in cpus_of(request)]
        self._supported(request)
        names: frozenset[str] | None
        if flags & IGNORE_HOST:
            if len(cpus) == 1:
                raise refusal.not_valid("ignoring host is only allowed when computing baseline from multiple CPUs")
            names, models = None, _lacking_nothing(hosts)
        else:
            told = hosts.told
            stuck = frozenset(self.known.named(told.features & ~told.migratable)) if flags & MIGRATABLE else frozenset()
            names, models = told.names - stuck, hosts.blockers
        stuck_out = bool(flags & MIGRATABLE) and names is None
        found = baselines.baseline(cpus, self.known, names=names, models=models, migratable=stuck_out)
        found.fallback = "forbid"
        if flags & EXPAND_FEATURES:
            found = expanded(found, self.known)
        if release >= (11, 0):
            found.addresses = baselines.common_limit(cpus)
        return self._written(found)

    def _written(self, cpu: CpuDef) -> Answer:
        return {"cpu": text(write(cpu, self.known.release))}

    def _asked_machine(self, request: Request) -> str:
        return str(request.get("machine", self.setup.machine))

    def _machine(self, name: str) -> str:
        """Return the full name of a machine type for a domain; raises LibvirtError where QEMU has none of that name."""
        try:
            return resolve_machine(self.setup.vmm.tables, name)
        except QemuError:
            raise refusal.unsupported(f"Emulator '{EMULATOR}' does not support machine type '{name}'", refusal.QEMU) from None

    def _supported(self, request: Request) -> str:
        """Return the full name of a request's machine type; raises LibvirtError likewise, in other words."""
        name = self._asked_machine(request)
        try:
            return resolve_machine(self.setup.vmm.tables, name)
        except QemuError:
            raise refusal.invalid(f"the machine '{name}' is not supported by emulator '{EMULATOR}'", refusal.QEMU) from None

    def _cpu(self, xml: str, kind: Kind) -> CpuDef:
        return read(parse_xml(xml, "CPU"), kind, self.known.release)


def _compare_flags(request: Request, function: str) -> int:
    """Return the flags of a comparison; raises InputError where it is to validate the XML, which is not modelled."""
    flags = flags_of(request, FAIL_INCOMPATIBLE | VALIDATE_XML, function)
    if flags & VALIDATE_XML:
        raise InputError("validating XML against libvirt's schema is not modelled")
    return flags


def _lacking_nothing(hosts: HostModels) -> dict[str, tuple[str, ...]]:
    """Return QEMU's models as if the host had all of their features."""
    return dict.fromkeys(hosts.blockers, ())


def _compared(found: compare.Compared, flags: int) -> Answer:
    if found.result == compare.INCOMPATIBLE and flags & FAIL_INCOMPATIBLE:
        raise refusal.incompatible(found.message, found.causes)
    return {"result": found.result}


_ANSWERS: dict[str, Callable[[Libvirt, Request], Answer]] = {
    name: getattr(Libvirt, name)
    for name in (
        "capabilities", "domcapabilities", "models", "argv", "start", "compare", "hypervisor_compare", "baseline", "hypervisor_baseline",
    )
}  # fmt: skip
