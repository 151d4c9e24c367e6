"""The generations of Zen: which one a processor is of, and the errata that come with it (arch/x86/kernel/cpu/amd.c)."""

from __future__ import annotations

from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_5

MICROCODE = "update the microcode"
GENERATION = Rule("linux.amd.generation", "family and model are of this Zen generation", "bsp_init_amd, cpu/amd.c", since="5.15")
ZEN = Rule("linux.amd.zen", "the family is Zen's or a later one", "init_amd_zen_common, cpu/amd.c")
TSA_CLEARED = Rule("linux.amd.tsa-microcode", "this microcode makes VERW clear buffers", "tsa_init, cpu/amd.c", since="5.15")
TSA_IMMUNE = Rule(
    "linux.amd.tsa-immune", "processors before Zen 3 have no transient scheduler attacks", "tsa_init, cpu/amd.c", since="5.15"
)
E1386 = Rule(
    "linux.amd.erratum-1386",
    "erratum 1386: XSAVES loses state on Zen 1 and 2",
    "fix_erratum_1386, cpu/amd.c",
    MICROCODE,
    lacking=BEFORE_RHEL_9_5,
)
CPB = Rule(
    "linux.amd.erratum-1076",
    "erratum 1076: Zen 1 has core performance boost though CPUID hides it",
    "init_amd_zen1, cpu/amd.c (init_amd_zn in 5.10)",
)
DIV0 = Rule("linux.amd.div0", "Zen 1 leaks quotients of divisions by zero", "init_amd_zen1, cpu/amd.c")
IRPERF = Rule(
    "linux.amd.erratum-1054", "erratum 1054: the counter of instructions retired is inaccurate", "init_amd_zen1, cpu/amd.c", since="6.6",
    lacking=("5.14", "5.14-el9_3", "5.14-el9_4", "5.14-el9_5", "6.8", "6.12-el10", "6.14"),
)  # fmt: skip
CYAN_SKILLFISH = Rule(
    "linux.amd.cyan-skillfish",
    "RDSEED is unreliable on this model",
    "init_amd_zen2, cpu/amd.c",
    since="6.12",
    lacking=("5.14", "6.12-el10", "6.14"),
    also=("6.6",),
)
ZEN2_INVLPGB = Rule(
    "linux.amd.zen2-invlpgb", "Zen 2 has no INVLPGB though some clients report it", "init_amd_zen2, cpu/amd.c", since="6.16"
)
BTC_NO = Rule("linux.amd.btc-no", "Zen 3 is immune to branch type confusion, but predates the bit that says so", "init_amd_zen3, cpu/amd.c")
VIRTUAL_VMLOAD = Rule(
    "linux.amd.zen4-vmload",
    "virtualized VMLOAD can reset the host on this model",
    "init_amd_zen4, cpu/amd.c",
    since="6.12",
    lacking=("5.14",),
)
RDSEED = Rule(
    "linux.amd.zen5-rdseed", "32-bit RDSEED returns zeros with this microcode", "init_amd_zen5, cpu/amd.c", MICROCODE, since="6.12",
    lacking=("5.14", "6.12-el10", "6.14", "6.16"),
)  # fmt: skip
TLBI = Rule("linux.amd.zen5-tlbi", "INVLPGB needs software's help on Zen 5", "init_amd_zen5, cpu/amd.c", since="7.2")

Ranges = tuple[tuple[int, int], ...]
_GENERATIONS: dict[int, tuple[tuple[str, Ranges], ...]] = {
    0x17: (("ZEN1", ((0x00, 0x2F), (0x50, 0x5F))), ("ZEN2", ((0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF)))),
    0x19: (("ZEN3", ((0x00, 0x0F), (0x20, 0x5F))), ("ZEN4", ((0x10, 0x1F), (0x60, 0xAF)))),
}
_FAMILY_1A: dict[str, tuple[tuple[str, Ranges], ...]] = {
    "6.8": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x70, 0x7F))),),
    "6.12": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F))),),
    "6.16": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F))), ("ZEN6", ((0x50, 0x5F), (0x90, 0xAF), (0xC0, 0xCF)))),
    "6.18": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F))), ("ZEN6", ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF)))),
    "7.1": (
        ("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F), (0xD0, 0xD7))),
        ("ZEN6", ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF), (0xD8, 0xEF))),
    ),
}
"""Models of family 0x1A by the release that first had them so."""


def _generation(cpu: Cpu) -> str | None:
    if cpu.family == 0x1A:
        known = "6.8" if cpu.is_release("5.14") else None
        table = next((rows for release, rows in reversed(_FAMILY_1A.items()) if known == release or (not known and cpu.since(release))), ())
    else:
        table = _GENERATIONS.get(cpu.family, ())
    for name, ranges in table:
        if any(first <= cpu.model <= last for first, last in ranges):
            return name
    return None


def identify(cpu: Cpu) -> None:
    """Mark the generation (bsp_init_amd)."""
    if generation := _generation(cpu):
        cpu.force(generation, GENERATION)


def transient_scheduler_attacks(cpu: Cpu) -> None:
    """Say what is known of transient scheduler attacks (tsa_init)."""
    if cpu.has("HYPERVISOR"):
        return
    if cpu.has("ZEN3") or cpu.has("ZEN4") or (cpu.family == 0x19 and not cpu.since("6.6")):
        good = cpu.is_one_of("tsa_microcode")
        if good is not None and cpu.microcode >= good.data:
            cpu.force("VERW_CLEAR", TSA_CLEARED)
    elif not (cpu.has("ZEN5") and cpu.since("7.3")):
        cpu.force("TSA_SQ_NO", TSA_IMMUNE)
        cpu.force("TSA_L1_NO", TSA_IMMUNE)
    if not cpu.has("ZEN5") and cpu.since("7.3"):
        cpu.force("TSA_FILL_NO", TSA_IMMUNE)


def init(cpu: Cpu) -> None:
    """Work around the generation's errata (init_amd)."""
    if "ZEN1" not in cpu.tables.features:
        _by_family(cpu)
        return
    generation = _generation(cpu)
    if cpu.family >= 0x17 and (generation or cpu.since("6.12") or cpu.is_release("5.14-el9_5")):
        cpu.force("ZEN", ZEN)
    if generation in _ERRATA:
        _ERRATA[generation](cpu)


def _by_family(cpu: Cpu) -> None:
    """Do what Linux did before it told generations apart (init_spectral_chicken and init_amd_zn)."""
    if cpu.family not in (0x17, 0x19):
        return
    if cpu.family == 0x17:
        cpu.clear("XSAVES", E1386)
        if _generation(cpu) == "ZEN1":
            cpu.set_bug("DIV0", DIV0)
    cpu.set("ZEN", ZEN)
    if not cpu.has("HYPERVISOR"):
        cpu.set("CPB", CPB)
        if cpu.family == 0x19:
            cpu.set("BTC_NO", BTC_NO)


def _erratum_1386(cpu: Cpu) -> None:
    good = cpu.is_one_of("erratum_1386_microcode")
    if good is None or cpu.microcode < good.data:
        cpu.clear("XSAVES", E1386)


def _zen1(cpu: Cpu) -> None:
    if cpu.since("6.6"):
        _erratum_1386(cpu)
    if not cpu.has("HYPERVISOR"):
        cpu.set("CPB", CPB)
    cpu.set_bug("DIV0", DIV0)
    if cpu.model < 0x30:
        cpu.clear("IRPERF", IRPERF)


def _zen2(cpu: Cpu) -> None:
    _erratum_1386(cpu)
    if (cpu.model, cpu.stepping) == (0x47, 0):
        cpu.clear("RDSEED", CYAN_SKILLFISH)
    cpu.clear("INVLPGB", ZEN2_INVLPGB)


def _zen3(cpu: Cpu) -> None:
    if not cpu.has("HYPERVISOR"):
        cpu.set("BTC_NO", BTC_NO)


def _zen4(cpu: Cpu) -> None:
    if 0x18 <= cpu.model <= 0x1F or 0x60 <= cpu.model <= 0x7F:
        cpu.clear("V_VMSAVE_VMLOAD", VIRTUAL_VMLOAD)


def _zen5(cpu: Cpu) -> None:
    good = cpu.is_one_of("zen5_rdseed_microcode")
    if good is None or cpu.microcode < good.data:
        cpu.clear("RDSEED", RDSEED)
    if cpu.has("INVLPGB") and not cpu.has("TLBSYNC_SFW_NO"):
        cpu.set_bug("TLBI", TLBI)


_ERRATA = {"ZEN1": _zen1, "ZEN2": _zen2, "ZEN3": _zen3, "ZEN4": _zen4, "ZEN5": _zen5}
