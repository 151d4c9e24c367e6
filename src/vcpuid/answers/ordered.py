"""A feature's fate where a domain of libvirt's leads to the guest's CPU: the domain and libvirt are parties between a person and the VMM.

Nothing is decided here: `order` reads libvirt's journal, `explain` the path's trace, and this joins the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import Explanation, Reason, Stage
from vcpuid.answers.fate import not_told
from vcpuid.answers.order import DOMAIN, LIBVIRT, Blocking, Order, Wish, together
from vcpuid.answers.remedy import by_short_name
from vcpuid.cpuid.features import Feature
from vcpuid.cpuid.names import find
from vcpuid.errors import VcpuidError
from vcpuid.libvirt.compare import DOMAIN_DEMANDS, MODEL_DEMANDS, QEMU_BLOCKS
from vcpuid.libvirt.journal import Ruling, in_xml
from vcpuid.libvirt.live import MISSING
from vcpuid.libvirt.update import ASKED
from vcpuid.path.pipeline import Path, tried
from vcpuid.qemu.expand import ABSENT, ASKS
from vcpuid.qemu.plan import USER_OFF, USER_ON
from vcpuid.reasons import Action, Basis
from vcpuid.told.completions import nameless
from vcpuid.told.doubt import NO_ANSWER, compared
from vcpuid.told.facts import Fact
from vcpuid.told.facts import remedy as to_be_told
from vcpuid.told.tried import Tried
from vcpuid.vmm import Vmm

_BY_USER, _BY_MODEL = (USER_ON, USER_OFF), (ABSENT, ASKS)
"""QEMU's rules behind which stands who wrote its -cpu: for a property, and for the model."""
_LACKING = (MODEL_DEMANDS, QEMU_BLOCKS, DOMAIN_DEMANDS, MISSING)
"""Rules by which libvirt misses a feature; by the others it minds that one is there."""
_NAMES_IT = ("qemu.model.absent", "qemu.kvm.default-off", "qemu.host.not-automatic", "qemu.host.not-migratable")
"""Rules of QEMU's which yield to whoever names the feature."""


def judged(order: Order, path: Path) -> Order:
    """Say of each feature that libvirt's refusal hangs on which party has it so; `path` is that of the order's -cpu."""
    causes = () if order.refusal is None else order.refusal.causes
    return replace(order, blocking=tuple(_blocking(cause, path, order) for cause in causes if isinstance(cause, Ruling)))


def _blocking(ruling: Ruling, path: Path, order: Order) -> Blocking:
    reason = ruling.reason
    if ruling.rule is MODEL_DEMANDS and ruling.cause is not None and order.lacks(ruling.cause, ruling.feature):
        reason = f"libvirt's {ruling.cause} demands it, and QEMU's {ruling.cause} does not have it"
    explained = explained_by_name(ruling.feature, path)
    party, why, _ = (None, reason, None) if explained is None else fate(explained, absent=ruling.rule in _LACKING)
    return Blocking(ruling, reason, party, why, ruling.remedy)


def explained_by_name(name: str, path: Path) -> Explanation | None:
    """Explain a feature that libvirt names; None for one that is no bit of the tables."""
    try:
        return explain(find(name), path)
    except VcpuidError:
        return None


def fate(explained: Explanation, *, absent: bool) -> tuple[str | None, str, str | None]:
    """Return the party that has it so, why, and what can be done; where it is not as it is said to be, the verdict alone."""
    if absent and not explained.visible and explained.chain:
        first = explained.chain[-1]
        of = "" if first.feature == explained.feature.name else f"{first.feature}: "
        return first.party, f"{of}{first.text}", explained.remedy
    if absent or not explained.visible:
        return None, explained.verdict, explained.remedy
    putting = explained.stages[0]
    for before, after in pairwise(explained.stages):
        if after.value and not before.value:
            putting = after
    return putting.party, putting.why or "it has it, and no layer takes it away", None


def explain_ordered(feature: Feature, path: Path, order: Order) -> Explanation:
    """Tell a feature's fate on the path of an order's -cpu; the order is `judged`."""
    base = explain(feature, path)
    asked, passed = order.asked(feature), order.passed(feature)
    above = (_stage(DOMAIN, "the domain", asked, feature, Basis.OBSERVED), _stage(LIBVIRT, "libvirt", passed, feature, Basis.MODELLED))
    found = replace(base, order=order, above=above)
    if facts := _unsettled(feature, path, order):
        at = len(base.stages) - [stage.party for stage in reversed(base.stages)].index(path.vmm.name) - 1
        stages = (*base.stages[:at], *(_open(stage, facts) for stage in base.stages[at:]))
        above = (above[0], _open(above[1], facts))
        verdict = not_told(feature, facts)
        return replace(found, stages=stages, above=above, verdict=verdict, chain=(), remedy=to_be_told(facts), unsettled=facts)
    if (base.depends or not base.known) and order.refusal is None:
        return found
    chain = tuple(_woven(base, asked, passed, order))
    verdict = base.verdict
    if order.refusal is not None:
        would = "With check='none'" if order.unchecked else "In what QEMU made"
        none = f"No guest sees {feature.name}" if base.sysfs is None else "No guest starts"
        verdict = f"{none}: libvirt {order.release} refuses the domain. {would}: {base.verdict}"
        found = replace(found, serves=())
    return replace(found, chain=chain, verdict=verdict, remedy=_remedy(found, chain, order))


def _stage(party: str, spoken: str, wish: Wish, feature: Feature, basis: Basis) -> Stage:
    title = "the <cpu> of its XML" if party == DOMAIN else "QEMU's -cpu"
    reasons = tuple(_reason(party, feature.name, ruling) for ruling in wish.rulings)
    return Stage(party, spoken, title, wish.value, basis, None, reasons, said=wish.why)


def _open(stage: Stage, facts: tuple[Fact, ...]) -> Stage:
    return replace(stage, value=None, basis=Basis.NOT_TOLD, modelled=None, reasons=(), depends=facts)


def _reason(party: str, feature: str, ruling: Ruling) -> Reason:
    action = Action.SET if ruling.policy in ("require", "force") else Action.CLEARED
    text = ruling.reason
    if ruling.rule is ASKED:
        text = f"the domain's <cpu> has <feature policy='{ruling.policy}' name='{ruling.feature}'/>"
    return Reason(party, feature, action, ruling.rule, text)


def _unsettled(feature: Feature, path: Path, order: Order) -> tuple[Fact, ...]:
    """Return the facts on which it hangs what becomes of a feature by what libvirt does; none where libvirt does the same on all hosts."""
    if not order.doubted:
        return ()
    if blind := nameless(order.setup.host):
        return blind
    base = False if order.refusal is not None else path.trace.steps[-1].value(feature.place)

    def seen(other: Path | Literal[False] | None) -> object:
        return NO_ANSWER if other is None else other.trace.steps[-1].value(feature.place) if isinstance(other, Path) else other

    return compared(base, _elsewhere(order, path.vmm).map(seen))


@lru_cache(maxsize=2)
def _elsewhere(order: Order, vmm: Vmm) -> Tried[Path | Literal[False] | None]:
    """Return the path of the domain on each host that the order's could be: False where libvirt refuses it, None where others do."""
    return order.elsewhere.map(lambda other: _path(other, vmm))


def _path(order: Order | None, vmm: Vmm) -> Path | Literal[False] | None:
    if order is None or order.refusal is not None:
        return None if order is None else False
    found = tried(order.argument, order.on(order.setup), vmm)
    return found if isinstance(found, Path) else None


def _woven(base: Explanation, asked: Wish, passed: Wish, order: Order) -> Iterator[Reason]:
    """Put into a chain who is behind what QEMU was asked for; before it, libvirt's refusal, and that libvirt switches the feature off."""
    name = base.feature.name
    refusing = [cause for cause in order.blocking if cause.ruling.feature == order.spelled(base.feature)]
    yield from (Reason(LIBVIRT, name, Action.CLEARED, cause.ruling.rule, cause.reason) for cause in refusing)
    by_user = any(reason.rule in _BY_USER and reason.feature == name for reason in base.chain)
    if not by_user and passed.value is False and not base.stages[-1].value:
        yield from _behind(name, asked, passed)
    for reason in base.chain:
        yield reason
        feature = by_short_name(reason.feature)
        if reason.rule in _BY_USER and feature is not None:
            yield from _behind(reason.feature, order.asked(feature), order.passed(feature))
        elif reason.rule in _BY_MODEL:
            choice = order.choice
            yield Reason(choice.party, reason.feature, reason.action, choice.rule, choice.text)


def _behind(name: str, asked: Wish, passed: Wish) -> Iterator[Reason]:
    """Give who had libvirt pass a feature on as it did: libvirt's own rule, or the domain that names it."""
    wish, party = (passed, LIBVIRT) if passed.rulings else (asked, DOMAIN)
    yield from (_reason(party, name, ruling) for ruling in wish.rulings)


def _remedy(found: Explanation, chain: Sequence[Reason], order: Order) -> str | None:
    """Say what helps as XML: against a refusal, what makes libvirt start the guest; else what has the feature asked for."""
    if order.blocking:
        return together([cause.remedy for cause in order.blocking if cause.remedy])
    if order.unchecked:
        return "set check='none'"
    name = order.spelled(found.feature)
    for reason in reversed(chain):
        if reason.party in (DOMAIN, LIBVIRT) and reason.rule.remedy and reason.text != order.choice.text:
            feature = by_short_name(reason.feature)
            return in_xml(reason.rule.remedy, (feature and order.spelled(feature)) or reason.feature)
        if reason.rule.id in _NAMES_IT and name is not None and found.remedy:
            return f"write <feature policy='require' name='{name}'/> in the domain's <cpu>"
        if reason.rule.remedy and reason.party not in (DOMAIN, LIBVIRT):
            return found.remedy
    return found.remedy


def explained(feature: Feature, path: Path, order: Order | None) -> Explanation:
    """Tell a feature's fate, with the parties above the VMM where there are any."""
    return explain(feature, path) if order is None else explain_ordered(feature, path, order)


def behind(found: Explanation, stage: Stage) -> Stage:
    """Return the stage above the VMM that had it decide as it did at this stage; the stage itself where that is the VMM's own doing."""
    if stage.party != found.path.vmm.name or not stage.reasons or stage.reasons[-1].rule not in _BY_USER:
        return stage
    return next((above for above in reversed(found.above) if above.reasons), stage)
