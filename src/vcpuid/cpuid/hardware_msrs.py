"""The MSRs of the hardware that a snapshot keeps: those for which the rules of Linux and KVM ask. None tells who the machine is."""

from __future__ import annotations

COMMON = (0x8B,)
OF_INTEL = (
    0x17, 0x33, 0x3A, 0x4E, 0xCE, 0xCF, 0x10A, 0x123, 0x140, 0x1A0, 0x345, *range(0x480, 0x493), 0x982,
)  # fmt: skip
OF_AMD = (0xC0010010, 0xC0010015, 0xC0010114, 0xC0010133, 0xC00102F0, 0xC0011020, 0xC0011029)
"""By vendor, whose others are not there; PPIN_CTL, 0x4E, says whether there is a serial number, which 0x4F would tell."""

KEPT = frozenset({*COMMON, *OF_INTEL, *OF_AMD})
"""All of them."""
