"""What real QEMUs told of 31 real machines, in libvirt's cputestdata: read in place where VCPUID_PEERS names the folder that holds it.

For each machine there are its CPUID and the answer of its QEMU to query-cpu-model-expansion of `host`; for 20 of them also
query-cpu-definitions. Those QEMUs and kernels are older than all tables here: the oldest ones, of Linux 6.1 and QEMU 7.2, are held against
them property by property. What differs is explained by a cause below, or the test fails; where causes date a kernel, one kernel must be
able to have had all that its machine showed and to have lacked all that it did not.

    VCPUID_PEERS=FOLDER python tests/conformance/test_libvirt.py        prints the agreement by machine
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, MsrWord, Snapshot
from vcpuid.qemu import models
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.expansion import expansion

ARCHIVE = Path(os.environ.get("VCPUID_PEERS", "peers-not-given")) / "libvirt-cputestdata.tar.gz"
KERNEL, QEMU = "6.1", "7.2"
TABLES = catalog(QEMU)
OTHERS = ("family", "model", "stepping", "model-id", "min-level", "min-xlevel")
"""Of the properties that are no features, those that a static expansion fixes; all others come from the model "base"."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning"),  # tsx=on, where there is nothing to turn on
    pytest.mark.long,
    pytest.mark.skipif(not ARCHIVE.is_file(), reason="needs libvirt's cputestdata in the folder that VCPUID_PEERS names"),
]


class Machine(NamedTuple):
    """A real machine: its CPUID, the properties of its host CPU and what each model of its QEMU lacked there (None: not asked)."""

    name: str
    host: Snapshot
    properties: dict[str, Any]
    lacking: dict[str, list[str]] | None

    @property
    def amd(self) -> bool:
        return self.host.vendor != "GenuineIntel"

    @property
    def params(self) -> dict[str, int | str]:
        """How its kernel was set up, as its answers show: nested virtualization was off by default, and transactional memory was on."""
        nested = bool(self.properties.get("vmx") or self.properties.get("svm"))
        return {"nested": int(nested), **({"cmdline": "tsx=on"} if self.properties["rtm"] else {})}

    def ours(self) -> dict[str, Any]:
        return expansion("host", self.host, QEMU, kernel=KERNEL, params=self.params)

    def compared(self) -> dict[str, tuple[Any, Any]]:
        """Return theirs and ours of every property that both releases know."""
        ours = self.ours()
        return {name: (value, ours[name]) for name, value in self.properties.items() if name in TABLES.flags or name in OTHERS}

    def differing(self) -> dict[str, tuple[Any, Any]]:
        return {name: pair for name, pair in self.compared().items() if pair[0] != pair[1]}


class Cause(NamedTuple):
    """Why properties differ: `ours` is our value, None for any; `linux` the release that brought the change, where it dates the kernel."""

    why: str
    names: frozenset[str]
    ours: bool | None
    holds: Callable[[Machine], bool]
    linux: tuple[int, int] | None = None

    def explains(self, machine: Machine, name: str, ours: Any) -> bool:
        return name in self.names and (self.ours is None or ours is self.ours) and self.holds(machine)


def cause(why: str, names: str, ours: bool | None, holds: Callable[[Machine], bool], linux: tuple[int, int] | None = None) -> Cause:
    return Cause(why, frozenset(names.split()), ours, holds, linux)


def words_of(kind: type) -> str:
    return " ".join(name for name, flag in TABLES.flags.items() if isinstance(TABLES.by_name[flag.word].word, kind))


def intel(machine: Machine) -> bool:
    return not machine.amd


def anywhere(machine: Machine) -> bool:
    return True


def converted(machine: Machine) -> bool:
    """Whether the answer was made of an older QEMU's feature words: it has no property that is no feature, such as "kvm"."""
    return "kvm" not in machine.properties


CAUSES = (
    cause("KVM gives RDTSCP to guests on AMD", "rdtscp", True, Machine.amd.fget, (4, 5)),
    cause("KVM knows protection keys", "pku", True, intel, (4, 6)),
    cause("Linux uses XSAVES again, after releases that did not", "xsaves", True, intel, (4, 8)),
    cause("KVM emulates UMIP", "umip", True, intel, (4, 16)),
    cause("KVM flushes TLBs for its guests", "kvm-pv-tlb-flush", True, anywhere, (4, 16)),
    cause("KVM emulates AMD's six counters", "perfctr-core", True, Machine.amd.fget, (4, 17)),
    cause("KVM sends interrupts for its guests", "kvm-pv-ipi", True, anywhere, (4, 19)),
    cause("KVM flushes the L1 data cache for nested hypervisors, and says so", "skip-l1dfl-vmentry", True, anywhere, (4, 19)),
    cause("KVM always has IA32_ARCH_CAPABILITIES", "arch-capabilities", True, anywhere, (5, 1)),
    cause("KVM tells guests what Linux knows the processor to be immune to", "rdctl-no mds-no", True, Machine.amd.fget, (5, 4)),
    cause("KVM passes on leaves past 0xD", "min-level", None, intel, (5, 3)),
    cause("KVM tells AMD's bits for Intel's mitigations too", "ibpb amd-ssbd", True, intel, (5, 4)),
    cause("KVM knows XSAVES on AMD", "xsaves", True, Machine.amd.fget, (5, 5)),
    cause("KVM has IA32_PERF_CAPABILITIES", "pdcm", True, intel, (5, 8)),
    cause("KVM gives its guests more of nested SVM", "lbrv vmcb-clean tsc-scale pause-filter pfthreshold", True, Machine.amd.fget, (5, 16)),
    cause("KVM has leaf 0x80000021", "min-xlevel", None, Machine.amd.fget, (5, 17)),
    # Without a date: stable kernels took these over, or they concern QEMU or the dump.
    cause("KVM passes STIBP on", "stibp", True, intel),
    cause("Linux knows an erratum of these processors' self-snooping", "ss", False, intel),
    cause("Linux knows erratum 1386 of Zen 2's XSAVES", "xsaves", False, lambda machine: machine.name == "EPYC-7502-32-Core"),
    cause(
        "KVM told of nested SVM even with nested=0, and QEMU did not tie it to SVM", "npt nrip-save", False,
        lambda machine: machine.amd and not machine.properties["svm"],
    ),
    cause("QEMU 2.12 gave this hint unasked", "kvm-hint-dedicated", False, anywhere),
    cause("QEMU left ARAT to KVM before 2.4", "arat", True, converted),
    cause(
        "KVM left TSC deadlines to the processor", "tsc-deadline", True,
        lambda machine: converted(machine) and not machine.host.raw.registers(1).ecx >> 24 & 1,
    ),
    cause("the dump lacks sub-leaf 1 of leaf 0xD", "xsaveopt", False, lambda machine: machine.host.raw.get(0xD, 1) is None),
    cause("the dump lacks KVM's feature MSRs", words_of(MsrWord), False, intel),
)  # fmt: skip
MODELS_CHANGED = frozenset({"mpx", "pku", "clflushopt", "intel-pt", "pconfig", "taa-no", "npt", "nrip-save"})
"""Features that QEMU gave to models or took from them between those releases and 7.2, or ties to SVM since 4.2."""
UNNAMED = ""
"""How QEMU lists a bit without a name: PCONFIG's, once it had taken the name away."""
AGREEMENT = """
A10-5800K 156 162
Cooperlake 217 290 101 116
Core-i5-2540M 159 162 27 32
Core-i5-4670T 158 162
Core-i5-650 170 175 37 45
Core-i5-6600 160 162
Core-i7-2600 161 164 27 32
Core-i7-3740QM 158 162
Core-i7-3770 159 162
Core-i7-4510U 160 162
Core-i7-5600U-arat 159 161
Core-i7-5600U-ibrs 161 164 30 33
Core-i7-7600U 183 188 44 48
Core-i7-7700 160 164 31 32
Core-i7-8700 174 177 41 45
EPYC-7502-32-Core 283 290 109 114
EPYC-7601-32-Core 159 164
Hygon-C86-7185-32-core 185 195 95 98
Opteron-6234 158 162
Phenom-B95 157 162
Xeon-E3-1225-v5 173 179 41 45
Xeon-E3-1245-v5 161 164 31 33
Xeon-E5-2609-v3 162 168 39 45
Xeon-E5-2630-v4 164 167 38 41
Xeon-E5-2650-v4 161 164 30 32
Xeon-E7-4820 159 162
Xeon-E7-4830 162 164 30 32
Xeon-E7540 173 178 36 45
Xeon-Gold-5115 160 168 44 45
Xeon-Gold-6130 191 195 89 98
Xeon-Platinum-9242 215 289 101 109
"""
"""By machine: properties that are equal, of how many, and lists of what a model lacks that are equal, of how many."""


@cache
def files() -> dict[str, str]:
    if not ARCHIVE.is_file():
        return {}
    with tarfile.open(ARCHIVE) as tar:
        found = {Path(info.name).name.removeprefix("x86_64-cpuid-"): tar.extractfile(info) for info in tar if info.isfile()}
        return {name: file.read().decode("utf-8", "replace") for name, file in found.items() if file is not None}


def answers(text: str) -> Iterator[Any]:
    """Yield what the monitor returned, answer by answer."""
    while text:
        answer, end = json.JSONDecoder().raw_decode(text)
        text = text[end:].lstrip()
        yield answer.get("return")


def snapshot(xml: str) -> Snapshot:
    entries, msrs = [], {}
    for row in ElementTree.fromstring(xml):
        numbers = {name: int(text, 16) for name, text in row.attrib.items()}
        if row.tag == "cpuid":
            registers = [numbers[register] for register in ("eax", "ebx", "ecx", "edx")]
            entries.append(Entry(numbers["eax_in"], numbers.get("ecx_in", 0), 0, *registers))
        else:
            msrs[numbers["index"]] = numbers["eax"] | numbers["edx"] << 32
    return Snapshot(raw=CpuidTable(entries), msrs=MsrTable(msrs))


def names() -> list[str]:
    return sorted(name.removesuffix(".json") for name in files() if name.endswith(".json"))


@cache
def machine(name: str) -> Machine:
    replies = list(answers(files()[f"{name}.json"]))
    expanded = next(reply["model"]["props"] for reply in replies if isinstance(reply, dict) and "model" in reply)
    listed = next((reply for reply in replies if isinstance(reply, list)), None)
    return Machine(
        name,
        snapshot(files()[f"{name}.xml"]),
        {TABLES.aliases.get(prop, prop): value for prop, value in expanded.items()},
        None if listed is None else {model["name"]: model["unavailable-features"] for model in listed},
    )


def causes_of(found: Machine, name: str, ours: Any) -> list[Cause]:
    return [known for known in CAUSES if known.explains(found, name, ours)]


@pytest.mark.parametrize("name", names())
def test_every_difference_of_the_host_cpu_has_its_cause(name: str) -> None:
    found = machine(name)
    unexplained = {prop: pair for prop, pair in found.differing().items() if not causes_of(found, prop, pair[1])}
    assert unexplained == {}


def kernels(found: Machine) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the release that the machine's kernel must at least have been, and the one that it was older than."""
    had, lacked = [(0, 0)], [(9, 9)]
    for known in CAUSES:
        for prop, (theirs, ours) in found.compared().items():
            if known.linux is None or not known.explains(found, prop, ours):
                continue
            if theirs != ours:
                lacked.append(known.linux)
            elif theirs is True:
                had.append(known.linux)
    return max(had), min(lacked)


@pytest.mark.parametrize("name", names())
def test_one_kernel_could_have_answered_so(name: str) -> None:
    """What the machine lacked came after its kernel, and what it had came before."""
    least, older_than = kernels(machine(name))
    assert least < older_than


def lists(found: Machine) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield a model's name, what it lacked there and what it lacks by us, for every model that both QEMUs have."""
    ours = {model.name: model for model in models(found.host, QEMU, kernel=KERNEL, params=found.params)}
    for name, lacking in (found.lacking or {}).items():
        if name in ours:
            open_ = [feature for feature in ours[name].not_told if feature in lacking]  # MSRs are not in libvirt's dumps
            yield name, lacking, [*ours[name].unavailable_features, *open_]


@pytest.mark.parametrize("name", [name for name in names() if machine(name).lacking])
def test_every_difference_in_what_models_lack_has_its_cause(name: str) -> None:
    found = machine(name)
    for model, theirs, ours in lists(found):
        for feature in {*theirs} ^ {*ours}:
            explained = feature in MODELS_CHANGED or feature == UNNAMED or causes_of(found, feature, feature not in ours)
            assert explained, (model, feature)


def agreement(name: str) -> str:
    found, asked = machine(name), list(lists(machine(name)))
    pairs = found.compared().values()
    line = f"{name} {sum(theirs == ours for theirs, ours in pairs)} {len(pairs)}"
    return f"{line} {sum(theirs == ours for _, theirs, ours in asked)} {len(asked)}" if asked else line


def test_agreement_is_what_it_was() -> None:
    """Neither worse nor, unnoticed, better."""
    assert "\n".join(map(agreement, names())) == AGREEMENT.strip()


def test_the_documentation_has_these_figures() -> None:
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    equal, compared, equal_lists, lists_compared = (
        sum(int(line.split()[column]) for line in AGREEMENT.split("\n") if len(line.split()) > column) for column in range(1, 5)
    )
    assert f"| {len(names())} real machines | the properties of QEMU's host CPU | {equal:,} of {compared:,} equal |" in page
    asked = sum(machine(name).lacking is not None for name in names())
    assert f"| {asked} of these | what each of QEMU's models lacks there | {equal_lists:,} of {lists_compared:,} lists equal |" in page
    assert f"one of {len(CAUSES)} causes" in page
    counted = dict.fromkeys(("no MSRs", "not yet", "otherwise", "nested", "erratum", "sub-leaf"), 0)
    for name in names():
        found = machine(name)
        for prop, (_, ours) in found.differing().items():
            counted[kind(causes_of(found, prop, ours)[0])] += 1
    assert tuple(counted.values()) == tuple(map(int, re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)))


def kind(known: Cause) -> str:
    """The row of the documentation that a cause counts in."""
    if known.linux is not None:
        return "not yet"
    words = {"feature MSRs": "no MSRs", "nested": "nested", "erratum": "erratum", "sub-leaf": "sub-leaf"}
    return next((kind for word, kind in words.items() if word in known.why), "otherwise")


def report() -> Iterator[str]:
    """Yield lines on each machine and, at the end, the causes with how many differences they explain."""
    counted: dict[str, int] = dict.fromkeys((known.why for known in CAUSES), 0)
    for name in names():
        found = machine(name)
        (low, high), differing = kernels(found), found.differing()
        since = f"from {low[0]}.{low[1]}, " if low[0] else ""
        yield f"{agreement(name)}; Linux {since}before {high[0]}.{high[1]}"
        for known in CAUSES:
            explained = [prop for prop, (_, ours) in differing.items() if known in causes_of(found, prop, ours)[:1]]
            counted[known.why] += len(explained)
            if explained:
                yield f"    {known.why}: {' '.join(sorted(explained)) if len(explained) < 9 else f'{len(explained)} properties'}"
    yield from (f"{count:4} {why}" for why, count in sorted(counted.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    print("\n".join(report()))
