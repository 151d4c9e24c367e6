"""The files of /sys/devices/system/cpu/vulnerabilities, as a kernel words them (cpu_show_common, arch/x86/kernel/cpu/bugs.c).

What Linux chooses by itself is modelled, `mitigations=off`, for each vulnerability the option that turns its mitigation off, and some that
pick another; the kernel is one as Debian configures it, with all mitigations built in, unprivileged eBPF off, and every module built with
retpolines. The texts of 5.10, 6.1, 6.12, 6.17 to 6.19, 7.1, 7.3 and Red Hat's 4.18 were read in Linux's source; those between are taken to
say what their neighbours say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vcpuid.cpuid.registers import Snapshot
from vcpuid.linux import spectre_v2
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.boot import boot_cpu, refuse_others
from vcpuid.linux.machine import MCU_OPT_CTRL, MCU_OPT_CTRL_GDS_LOCKED
from vcpuid.linux.spectre_v2 import Mode, User
from vcpuid.linux.standing import Standing, standing
from vcpuid.params import Given
from vcpuid.releases import RHEL_9, Release
from vcpuid.setup import Setup, settled

NOT_AFFECTED = "Not affected"
_CLEARS = "Mitigation: Clear CPU buffers"
_ATTEMPTED = "Vulnerable: Clear CPU buffers attempted, no microcode"
UNLISTED = "Unknown: No mitigations"
DEPENDENT = "Unknown: Dependent on hypervisor status"
_MICROCODE = "Vulnerable: No microcode"


class File(NamedTuple):
    """A file: its name, the bugs that it is about, what it says where the processor has one of them, the release that brought it.

    What is `of_hosts` is for the host to see to: what guests do to it, which its KVM mitigates, and its own microcode.
    """

    name: str
    bugs: tuple[str, ...]
    says: Callable[[Standing], str]
    since: str | None = None
    of_hosts: bool = False


def vulnerabilities(host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None) -> dict[str, str]:
    """Say what each file of /sys/devices/system/cpu/vulnerabilities holds on a host; takes and raises what `boot_cpu` does."""
    refuse_others(params)
    setup = settled(host, kernel=kernel, params=params)
    facts = not setup.params.linux and setup.host.kernel is not None
    return files(standing(setup, boot_cpu(setup, facts=facts)))


def files(v: Standing) -> dict[str, str]:
    """Give the files of a booted kernel by name."""
    there = (file for file in FILES if (file.since is None or v.since(file.since)) and _knows(v, file))
    return {file.name: file.says(v) if any(map(v.has_bug, file.bugs)) else NOT_AFFECTED for file in there}


def _knows(v: Standing, file: File) -> bool:
    """Tell whether the release knows one of the bugs: stable releases took over the later ones, each with its file."""
    return not file.bugs or any(bug in v.cpu.tables.bugs for bug in file.bugs)


def _with_siblings(v: Standing, text: str) -> str:
    return f"{text}; SMT {'Host state unknown' if v.guest else 'vulnerable' if v.smt else 'disabled'}"


def _meltdown(v: Standing) -> str:
    return "Mitigation: PTI" if v.has("PTI") else "Vulnerable"


def _spectre_v1(v: Standing) -> str:
    if v.without("nospectre_v1"):
        return "Vulnerable: __user pointer sanitization and usercopy barriers only; no swapgs barriers"
    return "Mitigation: usercopy/swapgs barriers and __user pointer sanitization"


def _store_bypass(v: Standing) -> str:
    choice = v.option("spec_store_bypass_disable")
    if not v.has("SSBD") or v.without("nospec_store_bypass_disable") or choice == "off":
        return "Vulnerable"
    if choice == "on":
        return "Mitigation: Speculative Store Bypass disabled"
    by_default = "prctl" if v.since("6.1") else "seccomp"
    seccomp = (choice if choice in ("prctl", "seccomp") else by_default) == "seccomp"
    return f"Mitigation: Speculative Store Bypass disabled via prctl{' and seccomp' if seccomp else ''}"


def _l1tf(v: Standing) -> str:
    inverted = "Mitigation: PTE Inversion"
    if not v.has("L1TF_PTEINV"):
        return "Vulnerable"
    if not (v.kvm and v.has("VMX")):
        return inverted
    if v.tells(ArchCap.SKIP_L1D_FLUSH):
        state = "flush not necessary"
    elif v.off("l1tf"):
        state = "vulnerable"
    else:
        state = "cache flushes" if v.option("l1tf") in ("full", "full,force") else "conditional cache flushes"
    if state == "vulnerable" and v.smt:
        return f"{inverted}; VMX: {state}"
    return f"{inverted}; VMX: {state}, SMT {'vulnerable' if v.smt else 'disabled'}"


def _mds(v: Standing) -> str:
    clears = v.clears_buffers
    text = "Vulnerable" if not clears else _CLEARS if v.has("MD_CLEAR") else _ATTEMPTED
    if v.guest or not v.has_bug("MSBDS_ONLY"):
        return _with_siblings(v, text)
    return f"{text}; SMT {'vulnerable' if not clears else 'mitigated' if v.smt else 'disabled'}"


def _taa(v: Standing) -> str:
    if not v.has("RTM"):
        return "Mitigation: TSX disabled"
    if not v.clears_buffers:
        return "Vulnerable"
    newer = not v.tells(ArchCap.MDS_NO) or v.tells(ArchCap.TSX_CTRL)
    return _with_siblings(v, _CLEARS if v.has("MD_CLEAR") and newer else _ATTEMPTED)


def _mmio(v: Standing) -> str:
    if v.has_bug("MMIO_UNKNOWN"):
        return UNLISTED
    if v.off() or (v.off("mmio_stale_data") and not v.clears_buffers):
        return "Vulnerable"
    by_mds = v.has("MD_CLEAR") and v.has("FLUSH_L1D") and not v.tells(ArchCap.MDS_NO)
    return _with_siblings(v, _CLEARS if v.tells(ArchCap.FB_CLEAR) or by_mds else _ATTEMPTED)


def _rfds(v: Standing) -> str:
    if v.off() or (v.off("reg_file_data_sampling") and not v.clears_buffers):
        return "Vulnerable"
    return "Mitigation: Clear Register File" if v.tells(ArchCap.RFDS_CLEAR) else _MICROCODE


def _itlb_multihit(v: Standing) -> str:
    if not v.has("MSR_IA32_FEAT_CTL") or not v.has("VMX"):
        return "KVM: Mitigation: VMX unsupported"
    if v.kvm and v.since("6.12"):  # kvm turns VMX on when it is loaded; before, when its first guest starts
        return "KVM: Vulnerable" if v.off() else "KVM: Mitigation: Split huge pages"
    return "KVM: Mitigation: VMX disabled"


def _srbds(v: Standing) -> str:
    if v.since("6.17") and v.off():
        return "Vulnerable"
    if v.tells(ArchCap.MDS_NO) and not v.has("RTM") and not v.has_bug("MMIO_STALE_DATA"):
        return "Mitigation: TSX disabled"
    if v.guest:
        return DEPENDENT
    if not v.has("SRBDS_CTRL"):
        return _MICROCODE
    return "Vulnerable" if v.off("srbds") else "Mitigation: Microcode"


def _gds(v: Standing) -> str:
    if v.guest:
        return DEPENDENT
    choice = v.option("gather_data_sampling")
    if not v.tells(ArchCap.GDS_CTRL):
        return "Mitigation: AVX disabled, no microcode" if choice == "force" and not v.off() else _MICROCODE
    if (v.machine.msr(MCU_OPT_CTRL) or 0) & MCU_OPT_CTRL_GDS_LOCKED:
        return "Mitigation: Microcode (locked)"
    return "Vulnerable" if v.off("gather_data_sampling") else "Mitigation: Microcode"


def _retbleed(v: Standing) -> str:
    chosen = spectre_v2.mode(v)
    ignored = v.since("6.17") and chosen in (Mode.EIBRS, Mode.IBRS)
    if v.off() or (v.off("retbleed") and not ignored):
        return "Vulnerable"
    if v.by_amd:
        strict = spectre_v2.stibp(v, chosen) in (User.STRICT, User.PREFERRED)
        siblings = "disabled" if not v.smt else "enabled with STIBP protection" if strict else "vulnerable"
        return f"Mitigation: untrained return thunk; SMT {siblings}"
    if v.cpu.vendor != "intel":
        return "Vulnerable"
    if chosen in (Mode.IBRS, Mode.IBRS_ALWAYS):
        return "Mitigation: IBRS"
    return "Mitigation: Enhanced IBRS" if chosen is Mode.EIBRS else "Vulnerable"


_LOOKS_FIRST = ("4.18", *RHEL_9)
"""Red Hat's kernels, worded as upstream's of 6.8, that look for the microcode before they ask whether SRSO is to be mitigated."""


def _return_stack(v: Standing) -> str:
    if v.has("SRSO_NO"):
        return "Mitigation: SMT disabled"
    off, microcode = v.off("spec_rstack_overflow"), v.has("IBPB_BRTYPE")
    red_hats = v.cpu.tables.release in _LOOKS_FIRST
    if red_hats and off and not v.off() and not microcode:
        return _MICROCODE
    if not v.since("6.8") and not red_hats:
        return ("Vulnerable" if off else "Mitigation: safe RET") + ("" if microcode else ", no microcode")
    if off:
        return "Vulnerable"
    if v.since("6.17") and v.cpu.family < 0x19 and not v.smt_possible:
        return "Mitigation: SMT disabled"
    if not v.has("SRSO_USER_KERNEL_NO"):
        return "Mitigation: Safe RET" if microcode else "Vulnerable: Safe RET, no microcode"
    if v.has("BTB_CTX_ISOLATION"):
        return _between_contexts(v, microcode)
    if v.has("SRSO_BP_SPEC_REDUCE"):
        return "Mitigation: Reduced Speculation"
    return "Mitigation: IBPB on VMEXIT only" if microcode or v.since("6.17") else _MICROCODE


def _between_contexts(v: Standing, microcode: bool) -> str:
    """Where host and guests have predictions of their own, only those of one kind are to be kept apart."""
    if not microcode:
        return _MICROCODE
    return "Mitigation: IBPB on context switch" if v.has("IBPB") else "Vulnerable: Microcode, no safe RET"


def _its(v: Standing) -> str:
    if v.off("indirect_target_selection") or spectre_v2.mode(v) is Mode.NONE:
        return "Vulnerable"
    return "Mitigation: Aligned branch/return thunks"


def _tsa(v: Standing) -> str:
    if v.off("tsa"):
        return "Vulnerable"
    if v.has("VERW_CLEAR"):
        return _CLEARS
    return _MICROCODE if v.since("6.16") else _ATTEMPTED


def _vmscape(v: Standing) -> str:
    if v.has("IBPB_EXIT_TO_USER"):
        return "Mitigation: IBPB before exit to userspace"
    return "Mitigation: IBPB on VMEXIT" if v.has("IBPB_ON_VMEXIT") else "Vulnerable"


def _old_microcode(v: Standing) -> str:
    return "Unknown: running under hypervisor" if v.guest else "Vulnerable"


def _never(v: Standing) -> str:
    del v
    return NOT_AFFECTED


FILES = (
    File("gather_data_sampling", ("GDS",), _gds),
    File("ghostwrite", (), _never, since="6.14"),
    File("indirect_target_selection", ("ITS",), _its),
    File("itlb_multihit", ("ITLB_MULTIHIT",), _itlb_multihit, of_hosts=True),
    File("l1tf", ("L1TF",), _l1tf),
    File("mds", ("MDS",), _mds),
    File("meltdown", ("CPU_MELTDOWN",), _meltdown),
    File("mmio_stale_data", ("MMIO_STALE_DATA", "MMIO_UNKNOWN"), _mmio),
    File("old_microcode", ("OLD_MICROCODE",), _old_microcode, of_hosts=True),
    File("reg_file_data_sampling", ("RFDS",), _rfds),
    File("retbleed", ("RETBLEED",), _retbleed),
    File("spec_rstack_overflow", ("SRSO",), _return_stack),
    File("spec_store_bypass", ("SPEC_STORE_BYPASS",), _store_bypass),
    File("spectre_v1", ("SPECTRE_V1",), _spectre_v1),
    File("spectre_v2", ("SPECTRE_V2",), spectre_v2.text),
    File("srbds", ("SRBDS",), _srbds),
    File("tsa", ("TSA",), _tsa),
    File("tsx_async_abort", ("TAA",), _taa),
    File("vmscape", ("VMSCAPE",), _vmscape, of_hosts=True),
)
"""All files in the order in which a folder is listed. `ghostwrite` is about RISC-V."""

OF_HOSTS = frozenset(file.name for file in FILES if file.of_hosts)
"""Files that are about the host alone."""
