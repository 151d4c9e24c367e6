"""No machine has more CPUs than Linux can run on: more are refused, whatever the form."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

import pytest

from support.captures import some
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import FORMATS, parse
from vcpuid.formats.lines import CPU_LIMIT
from vcpuid.formats.writing import WRITABLE, write

CPU = Snapshot(raw=CpuidTable([Entry(0, 0, 0, 0, 1, 2, 3)]))
ONE_CPU = {"snapshot", "kcpuid", "firecracker", "virtualbox", "vmware", "lscpu", "xenserver"}


def written(form: str) -> Callable[[int], str]:
    return lambda cpus: "\n".join(write([CPU] * cpus, form)) + "\n"


def repeated(cpu: str, around: str = "{}") -> Callable[[int], str]:
    """Repeat the text of a CPU, with its number for every #."""
    return lambda cpus: around.format("".join(cpu.replace("#", str(number)) for number in range(cpus)))


def vm(vcpus: int) -> str:
    registers = dict.fromkeys(("function", "index", "flags", "eax", "ebx", "ecx", "edx"), 0)
    data = {"snapshot_data": {"state": json.dumps({"Kvm": {"cpuid": [registers]}})}}
    return json.dumps({"snapshots": {"cpu-manager": {"snapshots": {str(number): data for number in range(vcpus)}}}})


TEXTS = {
    **{name: written(name) for name, known in WRITABLE.items() if known.several},
    "bochs": repeated("CPUID[0x00000000]: 00000000 00000001 00000002 00000003\n"),
    "libcpuid": repeated("_____ Logical CPU ## _____\nbasic_cpuid[0]=00000000 00000001 00000002 00000003\n".replace("##", "#0")),
    "xen": repeated("Raw policy: 1 leaves, 0 MSRs\n  00000000:ffffffff -> 00000000:00000001:00000002:00000003\n"),
    "cloud-hypervisor": vm,
    "cpudata": repeated("<cpudata arch='x86'><msr index='1' eax='1' edx='0'/></cpudata>", "<cpus>{}</cpus>"),
    "cpuinfo": repeated("processor : #\nflags : fpu\n\n"),
    "libvirt": repeated("<cpu><model>486</model></cpu>", "<cpus>{}</cpus>"),
    "recording": repeated(
        '{"pid":1,"tid":#,"call":"KVM_SET_CPUID2","fd":#,"ret":0,"nent":0,"entries":[]}\n'.replace('"fd":#', '"fd":1#'),
        '{{"schema":"vcpuid/recording/1","by":"ptrace"}}\n{}',
    ),
    "qmp": repeated('{"return": {"model": {"props": {}}}}\n'),
    "strace": repeated("12 ioctl(#, KVM_SET_CPUID2, {nent=0, entries=[]}) = 0\n"),
}


LIMIT = 200
"""A lower one, for all forms alike; what the real one is, the next test holds."""


@pytest.mark.parametrize("limit", some([LIMIT, CPU_LIMIT], 2))
@pytest.mark.parametrize("form", sorted({known.name for known in FORMATS if known.read is not None} - ONE_CPU))
def test_the_limit_holds_for_every_form(form: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXTS[form]
    parse(text(1), "dump")  # which imports what reads it
    for name, module in list(sys.modules.items()):
        if name.startswith("vcpuid.") and hasattr(module, "CPU_LIMIT"):
            monkeypatch.setattr(module, "CPU_LIMIT", limit)
    assert len(parse(text(limit), "dump")) == limit
    with pytest.raises(InputError, match=f"more than {limit} CPUs") as caught:
        parse(text(limit + 1), "dump")
    assert re.match("dump(:[0-9]+)?: ", str(caught.value))


@pytest.mark.bounds
def test_linux_runs_on_so_many() -> None:
    """As many as NR_CPUS may be at the most (NR_CPUS_RANGE_END, Linux arch/x86/Kconfig)."""
    assert CPU_LIMIT == 8192
    assert len(parse(TEXTS["cpuinfo"](CPU_LIMIT), "dump")) == CPU_LIMIT
