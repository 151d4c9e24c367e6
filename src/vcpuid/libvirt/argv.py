"""From the CPU to start to QEMU's arguments (qemuBuildCpuCommandLine and others, src/qemu/qemu_command.c)."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.libvirt.definition import OF_HOST, CpuDef
from vcpuid.libvirt.domain import ENLIGHTENMENTS, Domain, HypervDef
from vcpuid.libvirt.host_models import HostModels
from vcpuid.libvirt.journal import Journal
from vcpuid.libvirt.names import to_qemu
from vcpuid.libvirt.update import UNKNOWN
from vcpuid.libvirt.validate import DEFAULT_MODEL


def cpu_argument(domain: Domain, cpu: CpuDef | None, hosts: HostModels, journal: Journal) -> str | None:
    """Return the argument of -cpu; None where there is none."""
    model = "".join(_model(cpu, hosts, journal)) if cpu is not None and cpu.described else None
    flags = "".join((*_clock(domain), *_kernel(domain), *_pmu(domain), *_cache(cpu), *_addresses(cpu, hosts.known.release)))
    if model is None and not flags:
        return None
    return (model or DEFAULT_MODEL) + flags


def _model(cpu: CpuDef, hosts: HostModels, journal: Journal) -> Iterator[str]:
    if cpu.mode in OF_HOST:
        yield "host" if cpu.mode == "host-passthrough" else "max"
        if cpu.migratable is not None:
            yield f",migratable={cpu.migratable}"
    else:
        yield cpu.model or ""
    if cpu.vendor_id is not None:
        yield f",vendor={cpu.vendor_id}"
    for name, policy in cpu.features.items():
        if policy in ("force", "require"):
            yield f",{to_qemu(name)}=on"
        elif policy in ("disable", "forbid"):
            if name in hosts.told.names:
                yield f",{to_qemu(name)}=off"
            else:
                journal.note(name, None, UNKNOWN)


def _clock(domain: Domain) -> Iterator[str]:
    for name, present, frequency in domain.timers:
        if name == "kvmclock" and present is not None:
            yield f",kvmclock={'on' if present == 'yes' else 'off'}"
        elif name == "hypervclock" and present == "yes":
            yield ",hv-time=on"
        elif name == "tsc" and frequency:
            yield f",tsc-frequency={frequency}"


def _kernel(domain: Domain) -> Iterator[str]:
    """What KVM and Hyper-V offer besides CPUID's features."""
    if domain.eoi is not None:
        yield f",kvm-pv-eoi={domain.eoi}"
    if (locks := domain.switches.get("pvspinlock")) is not None:
        yield f",kvm-pv-unhalt={locks}"
    if domain.hyperv is not None:
        yield from _hyperv(domain.hyperv)
    on = {name for name, state in domain.kvm.items() if state == "on"}
    for name, text in (("hidden", ",kvm=off"), ("hint-dedicated", ",kvm-hint-dedicated=on"), ("poll-control", ",kvm-poll-control=on")):
        if name in on:
            yield text
    if domain.kvm.get("pv-ipi") == "off":
        yield ",kvm-pv-ipi=off"


def _hyperv(asked: HypervDef) -> Iterator[str]:
    if asked.passthrough:
        yield ",hv-passthrough=on"
    for name in ENLIGHTENMENTS:
        if asked.states.get(name) != "on":
            continue
        if name == "spinlocks":
            yield f",hv-spinlocks={asked.spinlocks:#x}"
        elif name == "vendor_id":
            yield f",hv-vendor-id={asked.vendor}"
        else:
            yield f",hv-{name.replace('_', '-')}=on"
        if name == "stimer" and asked.direct_timer == "on":
            yield ",hv-stimer-direct=on"
        if name == "tlbflush":
            if asked.direct_flush == "on":
                yield ",hv-tlbflush-direct=on"
            if asked.extended_flush == "on":
                yield ",hv-tlbflush-ext=on"


def _pmu(domain: Domain) -> Iterator[str]:
    if (pmu := domain.switches.get("pmu")) is not None:
        yield f",pmu={pmu}"


def _cache(cpu: CpuDef | None) -> Iterator[str]:
    if cpu is None or cpu.cache is None:
        return
    mode = cpu.cache.mode
    if mode == "emulate":
        yield ",l3-cache=on"
    elif mode == "passthrough":
        yield ",host-cache-info=on"
    if mode != "passthrough" and cpu.mode in OF_HOST:
        yield ",host-cache-info=off"
    if mode != "emulate":
        yield ",l3-cache=off"


def _addresses(cpu: CpuDef | None, release: tuple[int, int]) -> Iterator[str]:
    if cpu is None or cpu.addresses is None:
        return
    mode, bits, limit = cpu.addresses
    if mode == "passthrough":
        yield ",host-phys-bits=on"
        if limit:
            yield f",host-phys-bits-limit={limit}"
    elif bits or release < (11, 0):
        yield f",phys-bits={bits}"
    else:
        yield ",host-phys-bits=off"


def smp_argument(domain: Domain, cpu: CpuDef | None, release: tuple[int, int]) -> str:
    """Return the argument of -smp (qemuBuildSmpCommandLine)."""
    topology = None if cpu is None else cpu.topology
    counts = f"{domain.current}" if domain.current == domain.vcpus else f"{domain.current},maxcpus={domain.vcpus}"
    if topology is None:
        return f"{counts},sockets={domain.vcpus},cores=1,threads=1"
    named = {name: count for name, count in zip(topology._fields, topology, strict=True) if name != "clusters" or release >= (11, 0)}
    return f"{counts}," + ",".join(f"{name}={count}" for name, count in named.items())


def machine_argument(domain: Domain, machine: str, release: tuple[int, int]) -> str:
    """Return the argument of -machine for a domain with ACPI, without firmware (qemuBuildMachineCommandLine)."""
    vmport = domain.switches.get("vmport")
    middle = f",vmport={vmport}" if vmport else ""
    begins = f"{machine},usb=off{middle},dump-guest-core=off,memory-backend=pc.ram"
    if release < (11, 0):  # with QEMU 7.2: these are options of their own
        return begins
    hpet = "".join(f",hpet={'on' if present == 'yes' else 'off'}" for name, present, _ in domain.timers if name == "hpet" and present)
    return f"{begins}{hpet},acpi=on"
