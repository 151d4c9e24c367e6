"""What glibc holds to be fast or slow on a processor model (init_cpu_features, sysdeps/x86/cpu-features.c, 2.36 and 2.41).

Beside the features themselves, glibc's resolvers ask for preferences, which it sets by vendor, family and model. The same function takes
TSX away from models whose TSX is broken, and AVX from some of Zhaoxin's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vcpuid.cpuid.vendors import AMD, CENTAUR, HYGON, INTEL, ZHAOXIN

Ask = Callable[[str], bool]

_ZHAOXIN = (CENTAUR, ZHAOXIN)
KNOWN = (INTEL, AMD, HYGON, *_ZHAOXIN)
"""Of processors of other vendors glibc does not read leaf 1 nor any extended leaf, so that they lack SSE2 for it."""

_UNALIGNED = frozenset({"Fast_Unaligned_Load", "Fast_Unaligned_Copy", "Prefer_PMINUB_for_stringop"})
_CORE = _UNALIGNED | {"Fast_Rep_String"}
_BONNELL = {0x1C, 0x26}
_SALTWELL = {0x27, 0x35, 0x36}
_SILVERMONT = {0x37, 0x4A, 0x4D, 0x5D, 0x4C, 0x5A, 0x75, 0x5C, 0x5F, 0x7A, 0x57}
_TREMONT = {0x86, 0x96, 0x9C}
_NEHALEM = {0x1A, 0x1E, 0x1F, 0x25, 0x2C, 0x2E, 0x2F}
_SKYLAKE_SERVER = {0x55, 0x66}
_TSX_ABORTS = {0x55: 5, 0x8E: 0xC, 0x9E: 0xC, 0x4E: 0xF, 0x5E: 0xF}
_RTM_BROKEN = {0x3F: 3, 0x3C: 0xF, 0x45: 0xF, 0x46: 0xF}
_NO_AVX_6, _NO_AVX_7 = {0xF, 0x19}, {0x1B, 0x3B}
_NO_FAST_AVX_7 = {0x5B, 0x6B}


@dataclass
class Tuning:
    """What glibc makes of a model: preferences, and the usable features it adds or takes away."""

    preferred: set[str]
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


def tune(vendor: str, signature: int, cpu: Ask, usable: Ask, release: tuple[int, int]) -> Tuning:
    """Tune for a processor: `signature` is EAX of leaf 1, `cpu` asks CPUID for a feature, `usable` what update_active made of it."""
    family, model, stepping = _signature(signature)
    new = release >= (2, 41)
    tuning = Tuning({"AVX_Fast_Unaligned_Load"} if usable("AVX2") else set())
    if new and vendor not in (INTEL, AMD, HYGON):
        tuning.preferred.add("Avoid_Non_Temporal_Memset")
    if vendor == INTEL:
        _intel(tuning, family, model, stepping, cpu, new)
    elif vendor == AMD or (vendor == HYGON and not new):
        if family == 0x15 and 0x60 <= model <= 0x7F:
            tuning.preferred |= {"Fast_Unaligned_Load", "Fast_Copy_Backward"}
            tuning.preferred.discard("AVX_Fast_Unaligned_Load")
        if usable("AVX") and cpu("FMA4"):
            tuning.added = frozenset({"FMA4"})
    elif vendor in _ZHAOXIN:
        _zhaoxin(tuning, family, model, new)
    if vendor == INTEL and not cpu("AVX512ER") and usable("RTM") and "RTM" not in tuning.removed:
        tuning.preferred.add("Prefer_No_VZEROUPPER")
    tuning.preferred |= {name for name, feature in (("I586", "CX8"), ("I686", "CMOV")) if cpu(feature)}
    if new and not usable("ERMS"):
        tuning.preferred.add("Avoid_STOSB")
    return tuning


def _signature(eax: int) -> tuple[int, int, int]:
    """Family, model and stepping as glibc has them: with the extended model where any rule looks at it, which Linux counts from 6 on."""
    family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family in (6, 7, 0xF):
        model += eax >> 12 & 0xF0
    return family + (eax >> 20 & 0xFF if family == 0xF else 0), model, eax & 0xF


def _intel(tuning: Tuning, family: int, model: int, stepping: int, cpu: Ask, new: bool) -> None:
    preferred = tuning.preferred
    if family == 6:
        if stepping <= _TSX_ABORTS.get(model, -1):
            tuning.removed, tuning.added = frozenset({"HLE", "RTM"}), frozenset({"RTM_ALWAYS_ABORT"})
        elif stepping <= _RTM_BROKEN.get(model, -1):
            tuning.removed = frozenset({"RTM"})
    if family == 6 and model in _BONNELL | (_SALTWELL if new else set()):
        preferred.add("Slow_BSF")
    elif family == 6 and model in _SILVERMONT:
        preferred |= _UNALIGNED | {"Slow_SSE4_2"}
    elif family == 6 and model in _TREMONT:
        preferred |= _CORE | {"Slow_SSE4_2"}
    elif (family == 6 and model in _NEHALEM) or (cpu("AVX") and (family == 6 or new)):
        preferred |= _CORE
    if new and family == 6 and model in _SKYLAKE_SERVER:
        preferred.add("Avoid_Non_Temporal_Memset")
    if cpu("AVX512ER"):
        preferred.add("Prefer_No_VZEROUPPER")
    elif not cpu("AVX_VNNI"):
        preferred.add("Prefer_No_AVX512")
    if cpu("FSRM"):
        preferred.add("Avoid_Short_Distance_REP_MOVSB")


def _zhaoxin(tuning: Tuning, family: int, model: int, new: bool) -> None:
    no_avx = model in (_NO_AVX_6 if family == 6 else _NO_AVX_7 if family == 7 else set())
    if no_avx:
        tuning.removed = frozenset({"AVX", "AVX2"})
        if model != 0x3B:
            tuning.preferred.add("Slow_SSE4_2")
    slow = new and family == 7 and model in _NO_FAST_AVX_7
    if no_avx or slow:
        tuning.preferred.discard("AVX_Fast_Unaligned_Load")
    if slow:
        tuning.preferred |= {"Prefer_No_VZEROUPPER", "Fast_Unaligned_Load"}
