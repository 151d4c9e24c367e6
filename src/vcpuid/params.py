"""What Linux and KVM are told from outside: module parameters, and what neither CPUID nor an MSR of a snapshot shows.

Module parameters, as in /sys/module/MODULE/parameters; a name may carry its module ("kvm_intel.nested") or not ("nested"):

| module | names |
| --- | --- |
| kvm | `enable_pmu` |
| kvm_intel | `nested`, `ept`, `unrestricted_guest`, `sgx`, `pt_mode`, `cet`, `allow_smaller_maxphyaddr`, `enable_mediated_pmu` |
| kvm_amd | `nested`, `npt`, `nrips`, `vls`, `vgif`, `vnmi`, `lbrv`, `tsc_scaling`, `gmet`, `sev`, `sev_es`, `sev_snp` |

Facts of the machine and of the asking process:

| name | meaning | where not given |
| --- | --- | --- |
| `pmu` | whether perf has a PMU that KVM can use | feature MSR 0x345 (Intel); else as `vcpuid.kvm.pmu` tells |
| `pmu_counters` | general counters that perf has | leaf 0xA; AMD: leaf 0x80000022, else 6 or 4 |
| `pebs_ept` | perf can run PEBS under EPT | as perf knows of the model |
| `ept_5level` | EPT walks five levels | /proc/cpuinfo's vmx flags; else as the host has LA57 |
| `amx_permission` | the process asked ARCH_REQ_XCOMP_GUEST_PERM for AMX's tile data | off |
| `smt` | Linux may run several threads on a core | as CPUID tells |
| `sched_info` | the scheduler counts steal time (CONFIG_SCHED_INFO) | on |
| `max_vcpus` | KVM_MAX_VCPUS (CONFIG_KVM_MAX_NR_VCPUS) | 288 in 5.10, 1024 in 5.15 to 6.6, later 4096, as Debian builds them |
| `sev_firmware` | the secure processor answers | on |
| `paging_5level` | the host runs on five-level page tables | as the host has LA57 |

The Linux host's own, which `vcpuid.linux.machine` reads:

| name | meaning | where not given |
| --- | --- | --- |
| `cmdline` | its command line | empty |
| `tsx_mode` | what it does with TSX where that does not say (CONFIG_X86_INTEL_TSX_MODE_*): off, on or auto | auto from 7.0 on, before off |
| `msr.INDEX` | an MSR as the hardware has it; KVM's feature MSRs follow (`vcpuid.kvm.feature_msrs`) | the snapshot's, else a usual one |
| `microcode` | the microcode's revision as /proc/cpuinfo prints it: `msr.8b` holds it in another half on Intel than on AMD | as `msr.8b` |

The defaults of module parameters are the kernel's own; a snapshot's PARAM lines come before them, and what the caller gives before those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.errors import InputError
from vcpuid.numbers import U32, U64, hexadecimal, number

Value = int | str | bool
Given = Mapping[str, Value]
"""Parameters as a caller gives them, by name."""

COMMON = {"enable_pmu": 1}
INTEL = {
    "nested": 1, "ept": 1, "unrestricted_guest": 1, "sgx": 1, "cet": 1, "pt_mode": 0, "allow_smaller_maxphyaddr": 0,
    "enable_mediated_pmu": 0,
}  # fmt: skip
AMD = dict.fromkeys(("nested", "npt", "nrips", "vls", "vgif", "vnmi", "lbrv", "tsc_scaling", "gmet", "sev", "sev_es", "sev_snp"), 1)
MODULES = {"kvm": COMMON, "kvm_intel": INTEL, "kvm_amd": AMD}
"""KVM's modules, each with its parameters and the kernel's defaults."""

FACTS = frozenset(
    {
        "pmu", "pmu_counters", "pebs_ept", "ept_5level", "paging_5level", "amx_permission", "smt", "sched_info", "max_vcpus",
        "sev_firmware",
    }
)  # fmt: skip

CMDLINE, TSX_MODE = "cmdline", "tsx_mode"
TSX_MODES = ("off", "on", "auto")
CMDLINE_LIMIT = 2047
"""Bytes of a command line that Linux takes (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h, without the zero at the end)."""
MSR = "msr."
"""How the name of a parameter begins that gives an MSR; its index follows, hexadecimal."""
REVISION, REVISION_MSR = "microcode", 0x8B
"""The parameter that gives the microcode's revision, and the MSR that it is read from."""

_INT = (-1 << 31, (1 << 31) - 1)
"""What a module's parameter, an `int` or a `bool` of C, can be."""
_BOUNDS = {"pmu_counters": (0, 0xFF), "max_vcpus": (1, 4096)}
"""What facts can be that are counts: of counters a byte of CPUID tells, of vCPUs KVM's Kconfig."""

_WORDS = {"y": 1, "yes": 1, "on": 1, "true": 1, "n": 0, "no": 0, "off": 0, "false": 0}


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters whose names are known, parted by who reads them: KVM's (`kvm`), the Linux host's (`linux`)."""

    kvm: FrozenMap[str, Value] = field(default_factory=FrozenMap)
    linux: FrozenMap[str, Value] = field(default_factory=FrozenMap)

    @classmethod
    def of(cls, given: Given | None) -> Params:
        """Check and part what a caller gives; raises InputError for a name that is neither's or twice there, a value that is none."""
        if not given:
            return NONE
        kvm: dict[str, Value] = {}
        linux: dict[str, Value] = {}
        for name, value in given.items():
            if name == CMDLINE:
                linux[name] = read_cmdline(value)
            elif name == TSX_MODE:
                linux[name] = read_tsx_mode(value)
            elif name == REVISION:
                linux[name] = read_revision(value)
            elif name.startswith(MSR):
                spelled = f"{MSR}{read_msr(name, value)[0]:x}"
                if spelled in linux:
                    raise InputError(f"parameter {spelled} is given twice")
                linux[spelled] = value
            elif name in FACTS or modules_of(name):
                read(name, value)
                kvm[name] = value
            else:
                raise InputError(f"unknown parameter {name[:80]!r}: {', '.join(sorted(names()))} and msr.INDEX are known")
        if REVISION in linux and f"{MSR}{REVISION_MSR:x}" in linux:
            raise InputError(f"parameters {REVISION} and {MSR}{REVISION_MSR:x} both give the microcode's revision")
        return cls(FrozenMap(kvm), FrozenMap(linux))


NONE = Params()
"""No parameter given."""


def given(texts: Iterable[str]) -> Given:
    """Read NAME=VALUE options; numbers become integers. Whether a value is one that its parameter takes, `Params.of` tells.

    Raises InputError for what is not of that form.
    """
    parsed: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"--param {text!r} is not of the form NAME=VALUE")
        known = number(value, U64)
        parsed[name] = value if known is None else known
    return parsed


def read(name: str, value: Value) -> int:
    """Read a parameter's value: a number, or Y and N as /sys/module shows them; raises InputError."""
    found: int | None = value if isinstance(value, int) else _signed(value.strip().lower())
    if found is None:
        raise InputError(f"parameter {name}: {str(value)[:80]!r} is neither a number nor yes or no")
    least, most = _BOUNDS.get(name, _INT)
    if not least <= found <= most:
        raise InputError(f"parameter {name}: a number from {least} to {most} belongs there")
    return int(found)


def _signed(word: str) -> int | None:
    if word in _WORDS:
        return _WORDS[word]
    found = number(word.removeprefix("-"))
    return -found if found is not None and word.startswith("-") else found


def read_msr(name: str, value: Value) -> tuple[int, int | None]:
    """Read a parameter `msr.INDEX`: the index, and the value, None where RDMSR raises #GP ("absent"). Raises InputError."""
    index = hexadecimal(name.removeprefix(MSR), U32)
    found = value if isinstance(value, int) else number(value, U64)
    if index is None or (found is None and value != "absent"):
        raise InputError(
            f"parameter {name[:80]!r}: an MSR has a hexadecimal index of 32 bits, and a number of 64 bits as its value, or 'absent'"
        )
    if found is not None and not 0 <= found <= U64:
        raise InputError(f"parameter {name[:80]!r}: an MSR has a value of 64 bits")
    return index, found


def msrs_in(params: Given) -> Iterator[tuple[str, int]]:
    """Give the parameters that are MSRs, each with its index; raises InputError for an index that is none."""
    for name, value in params.items():
        if name == REVISION:
            yield name, REVISION_MSR
        elif name.startswith(MSR):
            yield name, read_msr(name, value)[0]


def read_revision(value: Value) -> int:
    """Read the parameter `microcode`; raises InputError for what is no number of 32 bits."""
    found = value if isinstance(value, int) else number(value, U32)
    if isinstance(value, bool) or found is None or not 0 <= found <= U32:
        raise InputError(f"parameter {REVISION}: {str(value)[:80]!r} is no revision, a number of 32 bits such as 0x5003707")
    return found


def with_option(cmdline: str, option: str) -> str | None:
    """Add an option to a kernel's command line; None where there is no room for it."""
    told = f"{cmdline} {option}".strip()
    return told if len(told.encode("utf-8", "surrogatepass")) <= CMDLINE_LIMIT else None


def read_cmdline(value: Value) -> str:
    """Read the parameter `cmdline`; raises InputError for one that no kernel is given."""
    text = str(value)
    if len(text.encode("utf-8", "surrogatepass")) > CMDLINE_LIMIT:
        raise InputError(f"parameter {CMDLINE}: {text[:40]!r}… has more than {CMDLINE_LIMIT} bytes, of which Linux reads no more")
    return text


def read_tsx_mode(value: Value) -> str:
    """Read the parameter `tsx_mode`; raises InputError for what is none of TSX_MODES."""
    if value not in TSX_MODES:
        raise InputError(f"parameter {TSX_MODE}: {str(value)[:80]!r} is none of {', '.join(TSX_MODES)}")
    return str(value)


def modules_of(name: str) -> tuple[str, ...]:
    """Name the modules of KVM that have a parameter, whether its name carries one or not; none where no module has it."""
    module, dot, rest = name.partition(".")
    if dot:
        return (module,) if rest in MODULES.get(module, ()) else ()
    return tuple(module for module, known in MODULES.items() if name in known)


def is_known(name: str) -> bool:
    """Whether `Params.of` takes a name: a module's parameter in full or short, a fact, or what is the Linux host's."""
    return name in FACTS or name in (CMDLINE, TSX_MODE, REVISION) or name.startswith(MSR) or bool(modules_of(name))


def names() -> Iterator[str]:
    """Give the names of all parameters, those of modules in full; of the Linux host's, all but those of MSRs."""
    for module, known in MODULES.items():
        yield from (f"{module}.{name}" for name in known)
    yield from FACTS
    yield CMDLINE
    yield TSX_MODE
    yield REVISION
