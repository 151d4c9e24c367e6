"""Texts of the forms that vcpuid reads and does not write, of a host's table: what the programs behind them print."""

from __future__ import annotations

import json
from collections.abc import Iterator

from vcpuid.cpuid import CpuidTable, CpuidWord
from vcpuid.cpuid.words import range_of

_FIELDS = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")


def samples(table: CpuidTable) -> Iterator[str]:
    """Give a text of each of these forms."""
    yield strace(table)
    yield cloud_hypervisor(table, 2, as_bytes=False)
    yield cloud_hypervisor(table, 2, as_bytes=True)
    yield from qmp()
    yield virtualbox(table)
    yield from vmware(table)
    yield bochs(table)
    yield xen(table)
    yield libcpuid(table, 2)
    yield from lscpu()
    yield from xenserver(table)


def _spelled(table: CpuidTable, before: str = "", between: str = " ") -> Iterator[tuple[int, int, str]]:
    """Give leaf, sub-leaf and registers of each entry, these as text."""
    for function, index, _, *registers in table:
        yield function, index, between.join(f"{before}{value:08x}" for value in registers)


def virtualbox(table: CpuidTable) -> str:
    """VBox.log: a guest that is told what its host's processor answers."""
    lines = ["00:00:01.000000 VirtualBox VM 7.0.20 r163906 linux.amd64", "00:00:06.706594 CPUM: Leaf/sub-leaf"]
    for function, index, told in _spelled(table):
        lines += [f"00:00:06.706596 Gst: {function:08x}/{index:04x}  {told}", f"00:00:06.706597 Hst:                {told}"]
    return "\n".join([*lines, "00:00:06.706700                           APIC = 1 (1)", ""])


def vmware(table: CpuidTable) -> Iterator[str]:
    """vmware.log, in its two forms."""
    rows = list(_spelled(table, "0x"))
    yield "".join(f"2024-05-01T10:20:30.{number:03}Z In(05) vmx hostCPUID level {function:08x}, {index:x}: {told}\n"
                  for number, (function, index, told) in enumerate(rows))  # fmt: skip
    who = ("guest", "*host")
    yield "".join(f"vmx| I005: guest vs. host CPUID {one} level {function:08x}, {index:2x}: {told}\n"
                  for function, index, told in rows for one in who)  # fmt: skip


def bochs(table: CpuidTable) -> str:
    """bochsout.txt, which has one answer a leaf."""
    told = (f"00000000000i[CPU0  ] CPUID[0x{function:08x}]: {registers}\n" for function, index, registers in _spelled(table) if not index)
    return f"00000000000i[      ] Bochs x86 Emulator 3.0\n{''.join(told)}"


def xen(table: CpuidTable) -> str:
    """What `xen-cpuid -p` prints, of two policies."""
    lines = [f"  {function:08x}:{index if index else 0xFFFFFFFF:08x} -> {told}\n" for function, index, told in _spelled(table, between=":")]
    policy = f"{len(lines)} leaves, 1 MSRs\n CPUID:\n  leaf     subleaf  -> eax      ebx      ecx      edx\n{''.join(lines)}"
    policy += " MSRs:\n  index    -> value\n  0000010a -> 000000000a000c04\n"
    return f"Xen reports there are maximum 32 leaves and 2 MSRs\nRaw policy: {policy}Host policy: {policy}"


def libcpuid(table: CpuidTable, cpus: int) -> str:
    """What `cpuid_tool --save` writes, of every logical CPU."""
    arrays = {4: "intel_fn4", 0xB: "intel_fn11", 0x12: "intel_fn12h", 0x14: "intel_fn14h", 0x8000001D: "amd_fn8000001dh"}
    lines = []
    for function, index, told in _spelled(table):
        if name := arrays.get(function):
            lines.append(f"{name}[{index}]={told}\n")
        elif not index:
            lines.append(f"{'ext_cpuid' if range_of(function) else 'basic_cpuid'}[{function & 0xFFFF}]={told}\n")
    return "".join(f"_________________ Logical CPU #{cpu} _________________\n{''.join(lines)}" for cpu in range(cpus))


_LSCPU = {
    "Architecture": "x86_64", "CPU(s)": "8", "Vendor ID": "GenuineIntel", "Model name": "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz",
    "CPU family": "6", "Model": "85", "Stepping": "7", "Flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr vmx avx2 avx512f",
    "L1d cache": "256 KiB (8 instances)", "Vulnerability Meltdown": "Not affected",
}  # fmt: skip


def lscpu() -> Iterator[str]:
    """What lscpu prints, as text and with -J."""
    yield "".join(f"{name + ':':<33}{value}\n" for name, value in _LSCPU.items())
    yield json.dumps({"lscpu": [{"field": f"{name}:", "data": value, "children": []} for name, value in _LSCPU.items()]}, indent=3)


def xenserver(table: CpuidTable) -> Iterator[str]:
    """What `xe host-cpu-info` prints, and the same in a line of `xe host-param-list`."""
    words = (CpuidWord(1, 0, "edx"), CpuidWord(1, 0, "ecx"), CpuidWord(0x80000001, 0, "edx"), CpuidWord(0x80000001, 0, "ecx"),
             CpuidWord(0xD, 1, "eax"), CpuidWord(7, 0, "ebx"), CpuidWord(7, 0, "ecx"))  # fmt: skip
    told = "-".join(f"{table.word(word):08x}" for word in words)
    lines = {"cpu_count": "8", "vendor": "GenuineIntel", "family": "6", "model": "85", "stepping": "7", "features": told}
    lines |= {"features_pv": told, "features_hvm": told}
    yield "".join(f"{name:>16}: {value}\n" for name, value in lines.items())
    yield f"                       cpu_info (MRO): {'; '.join(f'{name}: {value}' for name, value in lines.items())}\n"


def strace(table: CpuidTable) -> str:
    """What strace prints of a VMM with two vCPUs."""
    entries = ", ".join("{" + ", ".join(f"{name}={value:#x}" for name, value in zip(_FIELDS, entry, strict=True)) + "}" for entry in table)
    told = f"{{nent={len(table)}, entries=[{entries}]}}"
    return (
        "11 ioctl(3, KVM_GET_SUPPORTED_CPUID, 0x55b130c10ea0) = -1 E2BIG (Argument list too long)\n"
        f"11 ioctl(3, KVM_GET_SUPPORTED_CPUID, {told}) = 0\n"
        f"12 ioctl(9, KVM_SET_CPUID2, {told}) = 0\n"
        f"[pid 13] ioctl(10, KVM_SET_CPUID2, {told} <unfinished ...>\n[pid 13] <... ioctl resumed>) = 0\n"
    )


def cloud_hypervisor(table: CpuidTable, vcpus: int, *, as_bytes: bool) -> str:
    """state.json of a paused guest; older releases have each state as bytes."""

    def node(state: object, **snapshots: object) -> dict[str, object]:
        told = json.dumps(state)
        return {"snapshots": snapshots, "snapshot_data": list(told.encode()) if as_bytes else {"state": told}}

    state = {"cpuid": [dict(zip(_FIELDS, entry, strict=True)) for entry in table[:6]], "tsc_khz": 2_000_000}
    cpus = {str(number): node({"Kvm": state}) for number in range(vcpus)}
    return json.dumps(node({}, **{"cpu-manager": node(None, **cpus)}))


def qmp() -> Iterator[str]:
    """QEMU's answer to query-cpu-model-expansion, bare and in qmp-shell."""
    properties = {"avx2": True, "sse4.1": False, "level": 13, "vendor": "GenuineIntel", "hv-relaxed": True}
    told = json.dumps({"return": {"model": {"name": "host", "props": properties}}}, indent=2)
    yield told
    yield (
        "Welcome to the QMP low-level shell!\nConnected to QEMU 10.0.3\n\n"
        f'(QEMU) query-cpu-model-expansion type=full model={{"name":"host"}}\n{told}\n(QEMU) \n'
    )
