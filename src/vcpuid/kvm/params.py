"""What KVM is told from outside: module parameters, and what neither CPUID nor an MSR of a snapshot shows.

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
| `max_vcpus` | KVM_MAX_VCPUS (CONFIG_KVM_MAX_NR_VCPUS) | 1024 in 6.1, later 4096, as Debian builds them |
| `sev_firmware` | the secure processor answers | on |
| `paging_5level` | the host runs on five-level page tables | as the host has LA57 |

All others go to `vcpuid.linux.boot_cpu`. The defaults of module parameters are the kernel's own; a snapshot's PARAM lines come before
them, and what the caller gives before those.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError

Given = Mapping[str, int | str | bool]

COMMON = {"enable_pmu": 1}
INTEL = {
    "nested": 1, "ept": 1, "unrestricted_guest": 1, "sgx": 1, "cet": 1, "pt_mode": 0, "allow_smaller_maxphyaddr": 0,
    "enable_mediated_pmu": 0,
}  # fmt: skip
AMD = dict.fromkeys(("nested", "npt", "nrips", "vls", "vgif", "vnmi", "lbrv", "tsc_scaling", "gmet", "sev", "sev_es", "sev_snp"), 1)
MODULES = {"kvm": COMMON, "kvm_intel": INTEL, "kvm_amd": AMD}
FACTS = frozenset(
    {
        "pmu", "pmu_counters", "pebs_ept", "ept_5level", "paging_5level", "amx_permission", "smt", "sched_info", "max_vcpus",
        "sev_firmware",
    }
)  # fmt: skip

_LINUX = frozenset({"cmdline", "core_type", "threads"})
_WORDS = {"y": 1, "yes": 1, "on": 1, "true": 1, "n": 0, "no": 0, "off": 0, "false": 0}


class Params:
    """Parameters for one vendor module ("kvm_intel" or "kvm_amd")."""

    __slots__ = ("_given", "_module", "_snapshot")

    def __init__(self, module: str, host: Snapshot, given: Given) -> None:
        self._module, self._snapshot, self._given = module, host.params, given

    def fact(self, name: str) -> int | None:
        """Return a fact that was given, None where it was not."""
        value = self._given.get(name)
        return None if value is None else read(name, value)

    def parameter(self, name: str) -> int:
        """Return a module parameter: as given, else as the snapshot tells, else the kernel's default."""
        module = "kvm" if name in COMMON else self._module
        full = f"{module}.{name}"
        for given in (self._given, self._snapshot):
            value = given.get(full)
            if value is None and given is self._given:
                value = given.get(name)
            if value is not None:
                return read(full, value)
        return MODULES[module][name]


def split(params: Given | None) -> tuple[Given, dict[str, int | str]]:
    """Part the parameters into KVM's and those of the Linux host; raises InputError where a name is neither's."""
    mine: dict[str, int | str | bool] = {}
    linux: dict[str, int | str] = {}
    for name, value in (params or {}).items():
        if name in _LINUX or name.startswith("msr."):
            linux[name] = value
        elif name in FACTS or _known(name):
            mine[name] = value
        else:
            raise InputError(f"unknown parameter {name!r}: {', '.join(sorted(names()))} and msr.INDEX are known")
    return mine, linux


def read(name: str, value: int | str | bool) -> int:
    """Read a parameter's value: a number, or Y and N as /sys/module shows them; raises InputError."""
    if isinstance(value, str):
        word = value.strip().lower()
        try:
            return _WORDS[word] if word in _WORDS else int(word, 0)
        except ValueError:
            raise InputError(f"parameter {name}: {value!r} is neither a number nor yes or no") from None
    return int(value)


def _known(name: str) -> bool:
    module, dot, rest = name.partition(".")
    return rest in MODULES.get(module, ()) if dot else any(name in names for names in MODULES.values())


def names() -> set[str]:
    """Give the names of all parameters, those of modules in full; of the Linux host's, all but its MSRs."""
    return {f"{module}.{name}" for module, names in MODULES.items() for name in names} | FACTS | _LINUX
