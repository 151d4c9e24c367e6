"""The file spectre_v2: what the kernel does about branch target injection and its kin.

Linux, arch/x86/kernel/cpu/bugs.c (spectre_v2_show_state).
"""

from __future__ import annotations

from enum import Enum

from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.mitigations import RETPOLINES
from vcpuid.linux.standing import Standing
from vcpuid.releases import BEFORE_RHEL_9_2


class Mode(Enum):
    """How branches of the kernel are kept from predictions of others (enum spectre_v2_mitigation), with its text."""

    NONE = "Vulnerable"
    RETPOLINE = "Mitigation: Retpolines"
    EIBRS = "Mitigation: Enhanced / Automatic IBRS"
    IBRS = "Mitigation: IBRS"
    IBRS_ALWAYS = "Mitigation: IBRS (kernel and user space)"  # this and the next in RHEL 8 alone
    RETPOLINE_IBRS_USER = "Mitigation: Full retpoline and IBRS (user space)"


class User(Enum):
    """How processes are kept from each other (enum spectre_v2_user_mitigation)."""

    NONE = "disabled"
    STRICT = "forced"
    PREFERRED = "always-on"
    PRCTL = "conditional"


def mode(v: Standing) -> Mode:
    """Say which mitigation was chosen."""
    if not v.has_bug("SPECTRE_V2") or _refused(v):
        return Mode.NONE
    if v.option("spectre_v2") in RETPOLINES:
        return Mode.RETPOLINE
    if v.has("IBRS_EXIT_SET"):
        return Mode.RETPOLINE_IBRS_USER
    if v.has("KERNEL_IBRS"):
        return Mode.IBRS_ALWAYS if v.has("IBRS_EXIT_SKIP") else Mode.IBRS
    return Mode.EIBRS if v.has("IBRS_ENHANCED") else Mode.RETPOLINE


def text(v: Standing) -> str:
    """Give the file's text."""
    chosen = mode(v)
    named = chosen.value if "AUTOIBRS" in v.cpu.tables.features else chosen.value.replace(" / Automatic", "")
    parts = [named, _ibpb(v), "IBRS_FW" if v.has("USE_IBRS_FW") else "", _stibp(v, chosen)]
    parts += ["RSB filling" if v.has("RSB_CTXSW") else "", _pbrsb(v)]
    if "BHI" in v.cpu.tables.bugs:
        parts.append(f"BHI: {_branch_history(v)}")
        return "; ".join(filter(None, parts))
    return ", ".join(filter(None, parts))


def stibp(v: Standing, chosen: Mode) -> User:
    """Say how siblings are kept from each other's predictions."""
    if not v.has("STIBP") or not v.smt_possible or _keeps_itself(v, chosen):
        return User.NONE
    wanted = _user(v)
    untrained = v.by_amd and v.has_bug("RETBLEED") and not v.off("retbleed")
    if wanted is User.NONE and (not untrained or v.since("6.17") or _refused(v)):
        return wanted
    if wanted is not User.STRICT and (v.has("AMD_STIBP_ALWAYS_ON") or untrained):
        return User.PREFERRED
    return wanted


def _keeps_itself(v: Standing, chosen: Mode) -> bool:
    """Whether the kernel's own mitigation is taken to keep siblings apart, too."""
    if chosen is Mode.IBRS:  # which holds in the kernel alone, as Linux knows since 6.3
        return v.cpu.tables.release in BEFORE_RHEL_9_2
    return chosen is Mode.EIBRS and not v.has("AUTOIBRS")


def _refused(v: Standing) -> bool:
    return v.without("nospectre_v2") or v.off("spectre_v2")


def _user(v: Standing) -> User:
    """What the command line asks for (spectre_v2_parse_user_cmdline)."""
    if _refused(v):
        return User.NONE
    if v.option("spectre_v2") == "on":
        return User.STRICT
    return {"off": User.NONE, "on": User.STRICT}.get(v.option("spectre_v2_user") or "", User.PRCTL)


def _ibpb(v: Standing) -> str:
    if not v.has("IBPB"):
        return ""
    wanted = _user(v)
    always = wanted is User.STRICT or (wanted is not User.NONE and (v.option("spectre_v2_user") or "").endswith(",ibpb"))
    return f"IBPB: {'always-on' if always else 'disabled' if wanted is User.NONE else 'conditional'}"


def _stibp(v: Standing, chosen: Mode) -> str:
    if _keeps_itself(v, chosen):
        return ""
    found = stibp(v, chosen)
    return "" if found is User.PRCTL and not v.smt else f"STIBP: {found.value}"


def _pbrsb(v: Standing) -> str:
    if not v.has_bug("EIBRS_PBRSB"):
        return "PBRSB-eIBRS: Not affected"
    fills = v.has("RSB_VMEXIT_LITE") or v.has("RSB_VMEXIT")
    return f"PBRSB-eIBRS: {'SW sequence' if fills else 'Vulnerable'}"


def _branch_history(v: Standing) -> str:
    if not v.has_bug("BHI"):
        return "Not affected"
    if v.has("CLEAR_BHB_HW"):
        return "BHI_DIS_S"
    if v.has("CLEAR_BHB_LOOP"):
        return "SW loop, KVM: SW loop"
    if v.has("RETPOLINE") and (not v.tells(ArchCap.RRSBA) or v.has("RRSBA_CTRL")):
        return "Retpoline"
    return "Vulnerable"
