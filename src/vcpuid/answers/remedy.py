"""What a user can do about a feature that the guest does not see: the rule's own advice, made particular to this host and this QEMU.

A rule says what helps in general. Whether the model has a newer version with the feature, whether KVM lets a guest have it at all, and
whether a switch of the firmware may hide it, is known only where the path is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vcpuid.answers.switches import hiding
from vcpuid.answers.sysfs import served
from vcpuid.answers.unasked import how_to_ask
from vcpuid.cpuid import MsrWord, bits
from vcpuid.cpuid.names import Feature, find_all
from vcpuid.errors import InputError
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.path.pipeline import Path
from vcpuid.qemu import CpuState
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.reasons import Rule


def remedy(path: Path, chain: Iterable[tuple[Rule, str]]) -> str | None:
    """Say what helps: about the first cause of a chain of rules, each with the name of its feature, that something can be done about."""
    for rule, name in reversed(list(chain)):
        advise = _PARTICULAR.get(rule.id)
        told = rule.remedy if advise is None else advise(rule, name, path)
        if told:
            return told
    return None


def hidden_from_linux(path: Path, feature: Feature) -> str | None:
    """Say what may keep Linux from a feature that CPUID shows and /proc/cpuinfo does not, beyond the rules; None where nothing is known."""
    places = [] if feature.bit is None or feature.bit not in _LOCKED else list(hiding(feature.bit, path.host))
    return f"turn it on in {' or '.join(places)}" if places else None


_LOCKED = frozenset({bits.VMX, bits.SVM, bits.ERMS})
"""What Linux takes for absent, though CPUID shows it, where an MSR says that the firmware has it off."""


def _lacking(rule: Rule, name: str, path: Path) -> str | None:
    """The processor does not report it."""
    feature = by_short_name(name)
    helps = rule.remedy if feature is None or not served(feature) else _NEWER
    places = [] if feature is None or feature.bit is None else list(hiding(feature.bit, path.host))
    if not places or helps is None:
        return helps
    return f"look at {' and at '.join(places)}, where it may be off; else {helps}"


_NEWER = "update the host's microcode, or run the guest on a processor with what is missing"
"""What helps where a kernel needs it to mitigate something: without it a guest is not protected, whatever -cpu asks for."""


def _not_in_model(rule: Rule, name: str, path: Path) -> str | None:
    """The model lacks it."""
    ways = [f"name it with +{own}" for own in _property(name, path)]
    if not ways:
        return None
    ways += [f"choose {version}" for version in _version(name, path)]
    ways += ["take -cpu host"] if _automatic(name, path) else []
    return ", or ".join(ways)


def _named(rule: Rule, name: str, path: Path) -> str | None:
    """It has to be asked for."""
    own = _property(name, path)
    return rule.remedy.replace("+feature", f"+{own[0]}") if rule.remedy and own else None


def _denied(rule: Rule, name: str, path: Path) -> str | None:
    """KVM does not offer it, for a reason that no rule tells."""
    feature = by_short_name(name)
    if feature is None or feature.bit is None:
        return rule.remedy
    if feature.bit.word == MsrWord(ARCH_CAPABILITIES):
        return "use a host whose processor, microcode and kernel promise it, or leave it out"
    return rule.remedy


def _at_run_time(rule: Rule, name: str, path: Path) -> str | None:
    """KVM never offers it; MONITOR is QEMU's to give."""
    feature = by_short_name(name)
    if path.vmm.name != "qemu" or feature is None or feature.bit != bits.MWAIT or not path.host.raw.has(bits.MWAIT):
        return rule.remedy
    return "use -overcommit cpu-pm=on, which gives it to the guest of -cpu host: that then idles the processor itself"


_PARTICULAR: dict[str, Callable[[Rule, str, Path], str | None]] = {
    "silicon.lacks": _lacking,
    "qemu.model.absent": _not_in_model,
    "qemu.kvm.default-off": _named,
    "qemu.host.not-automatic": _named,
    "qemu.host.not-migratable": _named,
    "qemu.filter.kvm": _denied,
    "kvm.caps.runtime": _at_run_time,
    "silicon.hyper-v.unasked": how_to_ask,
}
"""Rules whose advice depends on the host or on QEMU's models."""


def by_short_name(name: str) -> Feature | None:
    """Return the feature that a reason is about; None where no table has it."""
    try:
        return next((feature for feature in find_all(name) if feature.name == name), None)
    except InputError:
        return None


def _property(name: str, path: Path) -> list[str]:
    """QEMU's name of a feature that this host's KVM lets a guest have; none where it does not, or QEMU has no name for it."""
    feature, tables = by_short_name(name), _tables(path)
    if feature is None or feature.bit is None or tables is None:
        return []
    able = path.made.available
    if able is not None and not able.get(feature.bit.word, 0) & feature.bit.mask:
        return []
    return [own.name for own in feature.qemu_names if own.name in tables.flags][:1]


def _version(name: str, path: Path) -> list[str]:
    """The version of the model that has it: the next newer one, else the newest of the older ones; none where there is none."""
    state, tables = path.made.detail, _tables(path)
    if tables is None or not isinstance(state, CpuState) or state.model not in tables.models:
        return []
    own, model = tables.flags[_property(name, path)[0]], tables.models[state.model]
    having = [other for other in tables.models.values() if other.base == model.base and other.features.get(own.word, 0) & own.mask]
    having = [other for other in having if not other.deprecated]
    newer = [other.name for other in having if other.version > model.version]
    return newer[:1] or [other.name for other in having][-1:]


def _automatic(name: str, path: Path) -> bool:
    """Whether -cpu host has it without being asked."""
    tables = _tables(path)
    assert tables is not None, "its property was found there"
    flag = tables.flags[_property(name, path)[0]]
    row = tables.by_name[flag.word]
    return bool(row.migratable & ~row.no_auto & flag.mask)


def _tables(path: Path) -> Catalog | None:
    return catalog(path.setup.vmm.tables) if path.vmm.name == "qemu" else None
