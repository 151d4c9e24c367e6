"""Options of the kernel's command line that name a feature to turn off or on."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.linux.cpu import Cpu
from vcpuid.numbers import U32, decimal
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_5

PARSE_EARLY = "cpu_parse_early_param, cpu/common.c"


class Switch(NamedTuple):
    """`option`, or `option=value`, turns features off for good; a `late` one after Linux looked for the processor's bugs."""

    option: str
    value: str
    features: str
    source: str
    since: str | None = None
    until: str | None = None
    late: bool = False
    lacking: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


SWITCHES = (
    Switch("noxsave", "", "XSAVE", PARSE_EARLY),
    Switch("noxsaveopt", "", "XSAVEOPT", PARSE_EARLY),
    Switch("noxsaves", "", "XSAVES", PARSE_EARLY),
    Switch("nousershstk", "", "USER_SHSTK", PARSE_EARLY, since="6.6"),
    Switch("fred", "off", "FRED", PARSE_EARLY, since="7.1"),
    Switch("nopcid", "", "PCID", "x86_nopcid_setup, cpu/common.c"),
    Switch("noinvpcid", "", "INVPCID", "x86_noinvpcid_setup, cpu/common.c"),
    Switch("nofsgsbase", "", "FSGSBASE", "x86_nofsgsbase_setup, cpu/common.c"),
    Switch("nosgx", "", "SGX", "nosgx, cpu/feat_ctl.c", since="5.15"),
    Switch("nox2apic", "", "X2APIC", "setup_nox2apic, apic/apic.c"),
    Switch("lapic", "notscdeadline", "TSC_DEADLINE_TIMER", "parse_lapic, apic/apic.c"),
    Switch("disableapic", "", "APIC", "setup_disableapic, apic/apic.c", until="6.12"),
    Switch("nolapic", "", "APIC", "setup_nolapic, apic/apic.c"),
    Switch("ibt", "off", "IBT", "ibt_setup, cet.c (traps.c before 6.6)", since="6.12", lacking=("5.14",)),
    # Debian builds 6.1 without CONFIG_X86_KERNEL_IBT, and Red Hat 5.14
    Switch("no5lvl", "", "LA57", "early_identify_cpu, cpu/common.c"),
    Switch("tlbi", "ipi", "INVLPGB", "tlbi_setup, cpu/common.c", since="7.2"),
    Switch("nosmep", "", "SMEP", "setup_disable_smep, cpu/common.c", until="5.15", late=True, also=BEFORE_RHEL_9_5),
    Switch("nosmap", "", "SMAP", "setup_disable_smap, cpu/common.c", until="5.15", late=True, also=BEFORE_RHEL_9_5),
    Switch("noclflush", "", "CLFLUSH CLFLUSHOPT", "setup_noclflush, cpu/common.c", until="5.15", late=True, also=BEFORE_RHEL_9_5),
    Switch("nordrand", "", "RDRAND RDSEED", "x86_rdrand_setup, cpu/rdrand.c", until="5.15", late=True, also=BEFORE_RHEL_9_5),
)
RULES = {
    switch: Rule(
        f"linux.option.{switch.option}",
        f"the command line says {switch.option}{'=' + switch.value if switch.value else ''}",
        switch.source,
        f"boot without {switch.option}",
        switch.since,
        switch.until,
        switch.lacking,
        switch.also,
    )
    for switch in SWITCHES
}
CLEARED = Rule("linux.option.clearcpuid", "the command line says clearcpuid", PARSE_EARLY, "boot without clearcpuid")
SET = Rule("linux.option.setcpuid", "the command line says setcpuid", PARSE_EARLY, "boot without setcpuid", since="6.16")
FRED = Rule(
    "linux.option.fred-not-on",
    "this release uses FRED only where the command line says fred=on",
    PARSE_EARLY,
    "boot with fred=on",
    since="6.12",
    until="7.0",
)


def apply(cpu: Cpu) -> None:
    """Turn off what the command line names, and on what setcpuid= names."""
    machine = cpu.machine
    if machine.option("fred") != "on":
        cpu.drop("FRED", FRED)
    if not machine.options:
        return
    _turn_off(cpu, late=False)
    for name in _named(cpu, machine.option("clearcpuid")):
        cpu.drop(name, CLEARED)
    for name in _named(cpu, machine.option("setcpuid")):
        cpu.force(name, SET)


def apply_late(cpu: Cpu) -> None:
    """Turn off what those options name that Linux reads later."""
    if cpu.machine.options:
        _turn_off(cpu, late=True)


def _turn_off(cpu: Cpu, *, late: bool) -> None:
    for switch, rule in RULES.items():
        if switch.late is late and cpu.machine.option(switch.option) == switch.value:
            for feature in switch.features.split():
                cpu.drop(feature, rule)


def _named(cpu: Cpu, value: str | None) -> list[str]:
    """Find the features that clearcpuid= or setcpuid= means: by number (word * 32 + bit), since 5.19 by /proc/cpuinfo's name, too.

    A kernel that knows numbers only stops reading at anything else.
    """
    tables = cpu.tables
    found: list[str] = []
    for word in value.split(",") if value else ():
        if (number := decimal(word.removeprefix("+"), U32)) is not None:  # kstrtouint takes a plus
            place = (number // 32, 1 << number % 32)
        elif not cpu.since("6.1") or cpu.is_release(*BEFORE_RHEL_9_5):
            break
        else:
            place = next((place for shown, place in tables.shown_features if shown == word), (0, 0))
        found += [name for name, known in tables.features.items() if known == place]
    return found
