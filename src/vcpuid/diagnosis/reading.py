"""From a paste to the answer: messages are found, features are read out of them, and each is asked about on the host, if there is one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from vcpuid.answers.certainty import followed
from vcpuid.answers.explain import explain
from vcpuid.answers.proposal import lenient
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.names import Feature, find
from vcpuid.diagnosis import instructions, msrs
from vcpuid.diagnosis.answer import Diagnosis, Finding, PastedGuest
from vcpuid.diagnosis.causes import possible
from vcpuid.diagnosis.messages import MessageForm, messages
from vcpuid.diagnosis.recognise import Recognised, recognise
from vcpuid.diagnosis.stack import answered
from vcpuid.diagnosis.vocabulary import EXTRA, MISSING, POSSIBLE, VOCABULARIES, Named, asked, features_in, named, unknown
from vcpuid.errors import NotToldError, RefusedError, warn_caller
from vcpuid.numbers import U64, hexadecimal
from vcpuid.path.pipeline import Path, probed
from vcpuid.path.probing import Probe
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.managers import understood
from vcpuid.qemu.startup import RunningKvm
from vcpuid.qemu.unknown import has_model
from vcpuid.releases import QEMUS
from vcpuid.setup import Setup, Stack, joined

_CPU = re.compile(
    r"""-cpu(?<!\S-cpu)\s+(?P<quote>['"]?)(?P<cpu>[\w.+-][\w.,+=:/-]{0,4000})(?P=quote)(?=\s|$)"""
    r"""|(?:\n[ \t]*cpu:|qm (?<!\wqm )(?:set|create) [^\n]{0,300}?--?cpu)[ \t]+"""
    r"""(?P<proxmox>(?:cputype=)?[\w.-]{1,80}(?:,[\w-]{1,40}=[\w.;+-]{1,2000})*)[ \t]*$"""
    r"""|(?:Configured CPU model: |cpu-model\.node\.kubevirt\.io/)(?P<model>[\w.-]{1,80})""",
    re.MULTILINE,
)
"""Where a paste names its guest's CPU: QEMU's argument, the option of Proxmox VE's qm.conf and of its command qm, and the model that Nova
is configured with or a pod of KubeVirt demands; in a text before which a line ends. Each begins with a letter of its own, by which re
skips what begins none."""


_GUESTS = 8
"""Guests of a paste that are looked at on a host, each of which takes a check."""
_NO_PATH: tuple[Path | None, tuple[str, ...]] = None, ()


def diagnose(
    text: str,
    host: Snapshot | Setup | None = None,
    cpu: str | None = None,
    stack: Stack | None = None,
    *,
    probe: Probe | None = None,
    kvm: RunningKvm | None = None,
) -> Diagnosis:
    """Tell what a paste says of features, who took them, and what to do.

    `text` is an error, a log, a list of features, as people paste it; `host` the machine it comes from, `cpu` the -cpu argument of the
    guest, for which those are taken that stand in the paste, each for the messages behind it, else "host". Without a host each feature has
    the rules that can clear it. `probe` and `kvm` are the host's own KVM, as in `verdict`. Raises InputError for a paste of over 1 MiB, a
    wrong `cpu`, release or parameter.
    """
    matches = recognise(text)
    code = instructions.faulting(text)
    instruction = None if code is None else instructions.decode(code)
    pasted = PastedCpus(text) if cpu is None else PastedCpus("", cpu)
    setup = None if host is None else joined(host, stack)
    found, covered = _named(text, matches, instruction, pasted, setup)
    named_by = {match for _, match in found if match is not None}
    answers = answered(matches, named_by, covered)
    order = {match.message.id: number for number, match in enumerate(answers)}
    found.sort(key=lambda pair: -1 if pair[1] is None else order[pair[1].message.id])
    near = _near(text) if not found and not matches else ()
    about = [pasted.of(match) for _, match in found]
    cpus = tuple(dict.fromkeys(about)) or pasted.cpus[:1]
    if setup is None:
        findings = tuple(_finding(one, match, cpu, None) for (one, match), cpu in zip(found, about, strict=True))
        return Diagnosis(matches, answers, findings, instruction, tuple(map(PastedGuest, cpus)), near, ())
    told = {cpu: _path(cpu or "host", setup, probe) for cpu in cpus[:_GUESTS]}
    findings = tuple(_finding(one, match, cpu, told.get(cpu, _NO_PATH)[0]) for (one, match), cpu in zip(found, about, strict=True))
    judged = {cpu: verdict(cpu, setup, probe=probe, kvm=kvm) for cpu in cpus if cpu is not None and found and cpu in told}
    guests = tuple(PastedGuest(cpu, None if cpu is None else judged.get(cpu)) for cpu in cpus)
    said = [remark for _, remarks in told.values() for remark in remarks]
    if len(cpus) > _GUESTS:
        said.append(f"the text has {len(cpus)} guests: what is said of those after the first {_GUESTS} is not looked at on the host")
    return Diagnosis(matches, answers, findings, instruction, guests, near, (*setup.remarks, *said))


def _cpus_in(text: str) -> Iterator[tuple[int, str]]:
    """Find each -cpu argument with its place; of what a manager calls so, or another program, what names a CPU."""
    for match in _CPU.finditer("\n" + text):
        named_so = match["cpu"] or match["proxmox"] or match["model"]
        if match["cpu"] or has_model(catalog(QEMUS[-1]), understood(named_so).cpu.partition(",")[0]):
            yield match.start() - 1, named_so


class PastedCpus:
    """The -cpu arguments in a paste, each for the messages behind it; `cpus` are they, or None alone where there are none."""

    def __init__(self, text: str, cpu: str | None = None) -> None:
        found = list(_cpus_in(text)) if cpu is None else [(0, cpu)]
        self._starts, self._cpus = [start for start, _ in found], [argument for _, argument in found]
        self.cpus: tuple[str | None, ...] = tuple(dict.fromkeys(self._cpus)) or (None,)

    def of(self, match: Recognised | None) -> str | None:
        """Return the -cpu that a message is about: the last one before it, for what stands before all of them the first."""
        if not self._cpus:
            return None
        return self._cpus[max(0, bisect_right(self._starts, 0 if match is None else match.start) - 1)]


def features(text: str) -> tuple[Feature, ...]:
    """Return the features that a text names, each once: one in any spelling, a list of them, the messages in a log.

    Names in a message that nobody knows are a RemarkWarning each. Raises InputError where the text names no feature, or where a word of a
    list is none; names that look alike are told.
    """
    found = _named(text, recognise(text), None, PastedCpus(""), None)[0]
    known = tuple(dict.fromkeys(one.feature for one, _ in found if one.feature is not None))
    for one, match in found:
        if match is None and one.feature is None:
            find(one.text)
        elif known and (remark := one.remark or unknown(one)):
            warn_caller(remark)
    return known or (find(text),)


def _finding(one: Named, match: Recognised | None, cpu: str | None, path: Path | None) -> Finding:
    if one.feature is None or (match is not None and match.emulated):
        return Finding(one, match, cpu)
    if path is None:
        return Finding(one, match, cpu, causes=possible(one.feature))
    return Finding(one, match, cpu, explain(one.feature, path))


def _path(cpu: str, setup: Setup, probe: Probe | None) -> tuple[Path | None, tuple[str, ...]]:
    """Resolve a CPU as QEMU would start it if it did not mind what is missing; without a path, why there is none."""
    try:
        return probed(followed(lenient(cpu), host=setup), probe), ()
    except (RefusedError, NotToldError) as error:
        return None, (f"-cpu {cpu}: {error}",)


_Pairs = list[tuple[Named, Recognised | None]]


def _named(
    text: str,
    matches: tuple[Recognised, ...],
    instruction: instructions.FaultingInstruction | None,
    pasted: PastedCpus,
    setup: Setup | None,
) -> tuple[_Pairs, set[Recognised]]:
    """Give each feature that a paste names once a guest, by the message nearest to the CPU; without messages, those of a list.

    What a message says for sure counts before what another one leaves open. The second are the messages all of whose features a nearer
    one, or one of the same form, names for the same guest.
    """
    found: _Pairs = []
    if instruction is not None:
        found += [(Named(instruction.text, feature), None) for feature in instruction.features]
    if not matches and instruction is None:
        return [(one, None) for one in asked(dict.fromkeys(features_in(text)))], set()
    said = [(one, match) for match in sorted(matches, key=lambda match: (-match.message.depth, match.start)) for one in _of(match, setup)]
    seen: dict[tuple[str, bool, str | None], Recognised | None] = {(one.name, False, cpu): None for one, _ in found for cpu in pasted.cpus}
    for one, match in sorted(said, key=lambda pair: pair[0].state == POSSIBLE):
        key = one.name, one.state == EXTRA, pasted.of(match)
        if key not in seen:
            seen[key] = match
            found.append((one, match))
    owners: dict[Recognised, list[Recognised | None]] = {}
    for one, match in said:
        owners.setdefault(match, []).append(seen[one.name, one.state == EXTRA, pasted.of(match)])
    found = list(zip(asked(one for one, _ in found), [match for _, match in found], strict=True))
    covered = {match for match, of in owners.items() if all(owner is None or _covers(owner, match) for owner in of)}
    return found, covered


def _covers(owner: Recognised, match: Recognised) -> bool:
    """Whether a message that names a feature makes another that names it needless."""
    return owner is not match and (owner.message.depth > match.message.depth or owner.message is match.message)


def _of(match: Recognised, setup: Setup | None) -> Iterator[Named]:
    """Give what a message names; first, on a host that is known, the bits of an MSR's value that its KVM refuses."""
    groups = match.groups
    if setup is not None and match.message.vocabulary == "msr" and groups.get("value") and groups.get("msr"):
        msr, value = hexadecimal(groups["msr"]), hexadecimal(groups["value"], U64)
        if msr is not None and value is not None:
            yield from (Named(f"MSR 0x{msr:x}", feature) for feature in msrs.refused(msr, value, setup.host) or ())
    yield from VOCABULARIES[match.message.vocabulary](groups)
    for text in match.message.features:
        yield from named(text, MISSING if len(match.message.features) == 1 else POSSIBLE)


def _near(text: str) -> tuple[MessageForm, ...]:
    """Find the forms of messages that share most words with a text; none where hardly any are shared."""
    words = _words(text[:20_000])
    scored = [(len(words & shared) / len(shared), message) for message in messages() if len(shared := _words(message.example)) > 2]
    best = sorted((pair for pair in scored if pair[0] >= 0.4), key=lambda pair: -pair[0])
    return tuple(message for _, message in best[:3])


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,30}", text.lower()))
