"""From what was asked for to a complete CPU: features, XSAVE components, last leaves.

QEMU, target/i386/cpu.c, x86_cpu_expand_features. What it needs to know of the host it takes from `Supported`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

from vcpuid.cpuid import bits, xfeatures
from vcpuid.cpuid.words import Bit, CpuidWord
from vcpuid.qemu import messages
from vcpuid.qemu.catalog import Catalog, Dependency
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.plan import USER_ON
from vcpuid.qemu.words import FeatureWord
from vcpuid.reasons import Rule

_EXPAND = "x86_cpu_expand_features, target/i386/cpu.c"

ABSENT = Rule(
    "qemu.model.absent", "the CPU model does not have this feature", "x86_cpu_load_model, target/i386/cpu.c",
    remedy="name it with +feature, or choose a version of the model that has it, or -cpu host",
)  # fmt: skip
ASKS = Rule("qemu.model.asks", "the CPU model has this feature", "x86_cpu_load_model, target/i386/cpu.c")
NOT_MIGRATABLE = Rule(
    "qemu.host.not-migratable", "QEMU does not know how to migrate a guest that uses it", "x86_cpu_get_migratable_flags, target/i386/cpu.c",
    remedy="set migratable=off, or name the feature with +feature",
)  # fmt: skip
NOT_AUTOMATIC = Rule(
    "qemu.host.not-automatic", "-cpu host and max leave it off unless it is asked for", _EXPAND, remedy="name it with +feature"
)
NOT_THIS_VENDOR = Rule(
    "qemu.host.not-this-vendor", "-cpu host and max give it to no guest CPU of this vendor",
    "x86_cpu_get_supported_feature_word, target/i386/cpu.c", since="9.1",
)  # fmt: skip
THREADS = Rule("qemu.expand.threads", "the guest has more than one thread a package", _EXPAND, since="10.0")
NO_PMU = Rule("qemu.expand.no-pmu", "there is no performance monitoring unit to describe", _EXPAND, remedy="set pmu=on", since="10.1")
DEPENDENCY = Rule("qemu.expand.dependency", "it needs {cause}, which is off", "feature_dependencies, target/i386/cpu.c")
CONFLICT = Rule(
    "qemu.expand.conflict", "MPX and APX share a part of the XSAVE area, and {cause} is on as well: the guest gets neither",
    _EXPAND,
    remedy="switch the other off", since="11.0",
)  # fmt: skip
KVM_HIDDEN = Rule("qemu.expand.kvm-off", "kvm=off hides KVM's own features", _EXPAND, remedy="set kvm=on")
COMPONENTS = Rule(
    "qemu.expand.xsave-components", "XSAVE components follow from the features that use them",
    "x86_cpu_enable_xsave_components, target/i386/cpu.c",
)  # fmt: skip

INTEL_PT, SGX = bits.INTEL_PT.mask, bits.SGX.mask
"""FEAT_7_0_EBX."""
_AVX10, _APX, _MPX, _ARCH_LBR = bits.AVX10.mask, bits.APX.mask, bits.MPX.mask, bits.ARCH_LBR.mask
_HT, _CMP_LEGACY, _PDCM, _XSAVE, _SVM = bits.HT.mask, bits.CMP_LEGACY.mask, bits.PDCM.mask, bits.XSAVE.mask, bits.SVM.mask
_ARCH_CAPABILITIES, _INVTSC = bits.ARCH_CAPABILITIES.mask, bits.CONSTANT_TSC.mask
_XSAVES = bits.XSAVES.mask
_SUPERVISOR_COMPONENTS = xfeatures.CET | xfeatures.LBR
"""All that QEMU knows of IA32_XSS."""
_UNSET = 0xFFFFFFFF

_LEVEL_WORDS = (
    "FEAT_1_EDX", "FEAT_1_ECX", "FEAT_6_EAX", "FEAT_7_0_ECX", "FEAT_7_1_EAX", "FEAT_7_1_ECX", "FEAT_7_1_EDX", "FEAT_7_2_EDX",
    "FEAT_8000_0001_EDX", "FEAT_8000_0001_ECX", "FEAT_8000_0007_EDX", "FEAT_8000_0008_EBX", "FEAT_C000_0001_EDX", "FEAT_SVM", "FEAT_XSAVE",
)  # fmt: skip
"""Words that raise the last leaf when they are not empty; FEAT_7_0_EBX does so even with full-cpuid-auto-level=off."""


OFFERED_COMPONENTS = ("FEAT_XSAVE_XCR0_LO", "FEAT_XSAVE_XSS_LO")
"""What KVM has of XSAVE's components: all that the features of a model of QEMU's own hang on of a host, its maker apart."""


class Shape(NamedTuple):
    """What CPU features depend on of the guest's topology."""

    threads_per_package: int = 1
    extended: bool = False


def expand(draft: Draft, shape: Shape) -> None:
    """Complete the features and the last leaves of a draft, in QEMU's order."""
    _start(draft)
    number = draft.catalog.number
    if number >= (9, 2) and draft.base is None and draft.has("FEAT_7_1_EDX", _AVX10) and not draft.props["avx10-version"]:
        draft.props["avx10-version"] = draft.supported.leaf(0x24).ebx & 0xFF
    if number >= (10, 0) and shape.threads_per_package > 1:
        draft.give("FEAT_1_EDX", _HT, THREADS)
        if not draft.is_intel and not draft.is_zhaoxin:
            draft.give("FEAT_8000_0001_ECX", _CMP_LEGACY, THREADS)
    if number >= (10, 1) and not draft.props["pmu"]:
        if not draft.props.get("x-pdcm-on-even-without-pmu"):
            draft.take("FEAT_1_ECX", _PDCM, NO_PMU)
        if number >= (11, 0):
            draft.take("FEAT_7_0_EDX", _ARCH_LBR, NO_PMU)
    _depend(draft)
    if number >= (11, 0) and draft.has("FEAT_7_0_EBX", _MPX) and draft.has("FEAT_7_1_EDX", _APX):
        draft.refuse("FEAT_7_0_EBX", _MPX, CONFLICT, partial(messages.CONFLICTS, other="APX"), bits.APX)
        draft.refuse("FEAT_7_1_EDX", _APX, CONFLICT, partial(messages.CONFLICTS, other="MPX"), bits.MPX)
    if not draft.props["kvm"]:
        draft.take("FEAT_KVM", _UNSET, KVM_HIDDEN)
    _components(draft)
    _levels(draft, shape)


def _start(draft: Draft) -> None:
    """Give the draft its model's features, or what the host can give, and then what was switched on and off."""
    ledger, features, user, supported = draft.ledger, draft.features, draft.user, draft.supported.words
    for row in draft.catalog.words:
        name, value = row.name, supported[row.name]
        if draft.base is None:
            features[name] = _take_host(draft, row, value)
        else:
            wanted = draft.base.get(name, 0)
            features[name] = ledger.set(row.word, ledger.keep(row.word, value, wanted, ABSENT), wanted, ASKS) if value != wanted else value
        user[name] = 0
    asked: dict[str, int] = {}
    for (name, mask), on, rule, counts in draft.switches:
        (draft.give if on else draft.take)(name, mask, rule)
        if counts:
            user[name] |= mask
        if rule is USER_ON:
            asked[name] = asked.get(name, 0) | mask
    draft.asked = {name: mask & features[name] for name, mask in asked.items()}


def _take_host(draft: Draft, row: FeatureWord, value: int) -> int:
    name, ledger = row.name, draft.ledger
    if name == "FEAT_8000_0007_EBX" and not draft.is_amd:
        return ledger.clear(row.word, value, value, NOT_THIS_VENDOR)
    if name == "FEAT_7_0_EDX" and draft.is_amd and draft.props.get("x-arch-cap-always-on") is False:
        value = ledger.clear(row.word, value, _ARCH_CAPABILITIES, NOT_THIS_VENDOR)
    if draft.props["migratable"]:
        migratable = row.migratable
        if name == "FEAT_8000_0007_EDX" and draft.props["tsc-frequency"] // 1000 and draft.catalog.number >= (9, 2):
            migratable |= _INVTSC
        value = ledger.keep(row.word, value, migratable, NOT_MIGRATABLE)
    return ledger.clear(row.word, value, row.no_auto, NOT_AUTOMATIC) if row.no_auto else value


@lru_cache(maxsize=16)
def _causes(catalog: Catalog) -> tuple[tuple[Dependency, Bit], ...]:
    """Pair every dependency with the bit that it names as the cause."""
    return tuple((row, Bit(catalog.by_name[row.word].word, row.mask.bit_length() - 1)) for row in catalog.dependencies)


def _depend(draft: Draft) -> None:
    """Take what depends on features that are off; warn of what was asked for."""
    features = draft.features
    for (name, mask, needs, needs_mask), cause in _causes(draft.catalog):
        if features[name] & mask:
            continue
        lost = features[needs] & needs_mask
        if not lost:
            continue
        draft.refuse(needs, lost & draft.user[needs], DEPENDENCY, messages.NOT_REQUESTED, cause)
        draft.take(needs, lost, DEPENDENCY, cause)


def _components(draft: Draft) -> None:
    """Settle the XSAVE components: those of features in force that KVM has (x86_cpu_enable_xsave_components, x86_cpu_init_xsave)."""
    supported, number, found = draft.supported.words, draft.catalog.number, 0
    of_user, of_supervisor = OFFERED_COMPONENTS
    known = supported[of_user] | xfeatures.LEGACY
    if number >= (11, 0):
        known |= supported[of_supervisor]
    if draft.has("FEAT_1_ECX", _XSAVE):
        for component, name, mask, _ in draft.catalog.components:
            if draft.features[name] & mask and (known >> component & 1 or number < (9, 2)):
                found |= 1 << component
    supervisor = found & _SUPERVISOR_COMPONENTS
    if number >= (11, 0) and not draft.has("FEAT_XSAVE", _XSAVES):
        supervisor = 0
    for name, value in (
        ("FEAT_XSAVE_XCR0_LO", found & ~_SUPERVISOR_COMPONENTS),
        ("FEAT_XSAVE_XCR0_HI", 0),
        ("FEAT_XSAVE_XSS_LO", supervisor),
        ("FEAT_XSAVE_XSS_HI", 0),
    ):
        if name in draft.features:  # IA32_XSS is known since 7.1
            draft.features[name] = draft.ledger.compute(draft.catalog.by_name[name].word, draft.features[name], value, COMPONENTS)


def _levels(draft: Draft, shape: Shape) -> None:
    """Settle the last leaves: those set by the user, else the model's, raised for features that need more."""
    props, features = draft.props, draft.features
    least = {0x0: props["min-level"], 0x8: props["min-xlevel"], 0xC: props["min-xlevel2"]}
    func7 = 0

    def reach(name: str) -> None:
        nonlocal func7
        word = draft.catalog.by_name.get(name)
        if word is None or not features[name] or not isinstance(word.word, CpuidWord):
            return
        function = word.word.function
        least[function >> 28] = max(least[function >> 28], function)
        if function == 7:
            func7 = max(func7, word.word.index)

    reach("FEAT_7_0_EBX")
    if props.get("full-cpuid-auto-level", True):
        for name in _LEVEL_WORDS:
            reach(name)
        if draft.has("FEAT_7_0_EBX", INTEL_PT):
            if props.get("x-intel-pt-auto-level", True):
                least[0] = max(least[0], 0x14)
            elif least[0] < 0x14:
                told = messages.PT_NEEDS_LEVEL if draft.catalog.number >= (6, 0) else messages.PT_NEEDS_LEVEL_SIGNED
                draft.refuse("FEAT_7_0_EBX", INTEL_PT, DEPENDENCY, told, bits.INTEL_PT)
        if (shape.extended or props.get("x-force-cpuid-0x1f")) and (draft.is_intel or not props.get("x-vendor-cpuid-only")):
            least[0] = max(least[0], 0x1F)
        if draft.has("FEAT_7_1_EDX", _AVX10):
            least[0] = max(least[0], 0x24)
        if draft.has("FEAT_7_1_EDX", _APX):
            least[0] = max(least[0], 0x29)
        if draft.has("FEAT_8000_0001_ECX", _SVM):
            least[8] = max(least[8], 0x8000000A)
        if features.get("FEAT_8000_0021_EAX"):
            least[8] = max(least[8], 0x80000021)
        if draft.has("FEAT_7_0_EBX", SGX):
            least[0] = max(least[0], 0x12)
    for name, value in (("level-func7", func7), ("level", least[0]), ("xlevel", least[8]), ("xlevel2", least[0xC])):
        if props[name] == _UNSET:
            props[name] = value
    props["level-func24"] = 1 if draft.catalog.number >= (11, 0) and props["avx10-version"] > 1 else 0
    props["min-level"], props["min-xlevel"], props["min-xlevel2"] = least[0], least[8], least[0xC]
