"""The lines of /proc/cpuinfo against every captured kernel: exact, and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from support import captures
from support.bochs import environment
from support.captures import MACHINES, origin, release
from vcpuid.cpuid import CpuidTable, Word
from vcpuid.linux import BootCpu, boot_cpu, cpuinfo
from vcpuid.linux.observed import OBSERVED
from vcpuid.reasons import Decision, replay


@pytest.mark.conformance("/proc/cpuinfo", origin)
@pytest.mark.parametrize("name", MACHINES)
def test_cpuinfo_is_what_the_kernel_printed(name: str) -> None:
    host = captures.host(name)
    observed = cpuinfo(host, release(name), environment(name, host))
    for line, names in observed._asdict().items():
        assert " ".join(names) == host.cpuinfo.get(line, "").strip(), line


def printed(cpu: BootCpu) -> dict[Word, int]:
    """The flags and bugs that /proc/cpuinfo shows, as masks: hidden ones no capture tells."""
    masks: dict[Word, int] = {}
    for _, (number, mask) in (*cpu.tables.shown_features, *cpu.tables.shown_bugs):
        word = cpu.tables.words[number]
        masks[word] = masks.get(word, 0) | mask
    return masks


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_replaying_the_decisions_gives_the_words(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    host = captures.host(name)
    cpu = boot_cpu(host, release(name), environment(name, host))
    told = printed(cpu)
    fired(f"kvm/{name}", (decision for decision in cpu.decisions if decision.mask & told.get(decision.word, 0)))
    before = {word: value for word, value in host.raw.words().items() if word in cpu.words()}
    assert {word: value for word, value in replay(before, cpu.decisions).items() if value} == {
        word: value for word, value in cpu.words().items() if value
    }


@pytest.mark.parametrize("name", MACHINES)
def test_a_hosts_own_lines_stand_in_for_what_cpuid_cannot_tell(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    host = captures.host(name)
    info = cpuinfo(host, release(name))
    assert " ".join(info.flags) == host.cpuinfo["flags"]
    assert " ".join(info.bugs) == host.cpuinfo.get("bugs", "")
    assert " ".join(info.vmx_flags) == host.cpuinfo.get("vmx_flags", "")
    fired(f"kvm/{name}", (d for d in boot_cpu(host, facts=True).decisions if d.rule is OBSERVED))


def test_a_hosts_own_lines_do_not_stand_in_for_cpuid() -> None:
    host = captures.host("kvm-intel.corei7_skylake_x@6.12")
    raw = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5)) if e[:2] == (7, 0) else e for e in host.raw)
    assert "avx2" in cpuinfo(host, "6.12").flags
    assert "avx2" not in cpuinfo(replace(host, raw=raw), "6.12").flags
    assert cpuinfo(host, "7.3", observed=False) == cpuinfo(host, "7.3")
