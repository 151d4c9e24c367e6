"""QEMU's feature words: which register or MSR each one is, what its bits are called, which of them may migrate.

QEMU, target/i386/cpu.c, feature_word_info and enum FeatureWord; a release's words come in that order, and so do its warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vcpuid.cpuid.words import CpuidWord, MsrWord


@dataclass(frozen=True, slots=True)
class FeatureWord:
    """One row of feature_word_info.

    `name` is QEMU's (FEAT_7_0_EBX), `word` the register or MSR behind it, `label` that word as the release's warnings print it, `names`
    the properties by bit. Bits of `migratable` may be handed to a guest that is to migrate; those of `no_auto` are not switched on by
    themselves in "max" and "host".
    """

    name: str
    word: CpuidWord | MsrWord
    label: str
    names: Mapping[int, str]
    migratable: int
    no_auto: int

    def describe(self, position: int) -> str:
        """Spell one bit as QEMU does in warnings (mark_unavailable_features)."""
        name = self.names.get(position)
        return f"{self.label}{'.' + name if name else ''} [bit {position}]"


def read(row: Mapping[str, Any], subleaf_in_label: bool) -> FeatureWord:
    """Make a feature word of a catalog's row; `subleaf_in_label` tells the newer form of feature_word_description (10.1)."""
    word: CpuidWord | MsrWord
    if "msr" in row:
        word = MsrWord(row["msr"])
        label = f"MSR({word.msr:02X}{'h' if subleaf_in_label else 'H'})"
    else:
        word = CpuidWord(row["leaf"], row["index"], row["register"])
        if not subleaf_in_label:
            label = f"CPUID.{word.function:02X}H:{word.register.upper()}"
        elif row["indexed"]:
            label = f"CPUID[eax={word.function:02X}h,ecx={word.index:02X}h].{word.register.upper()}"
        else:
            label = f"CPUID[eax={word.function:02X}h].{word.register.upper()}"
    names = {int(position): name for position, name in row["bits"].items()}
    return FeatureWord(row["name"], word, label, names, row["migratable"], row["no_auto"])
