"""The table of messages: every row matches its example and no other's, every line of real QEMUs is known, no pattern is slow."""

from __future__ import annotations

import json
import lzma
import re
from itertools import islice
from pathlib import Path
from string import Formatter
from time import process_time

import click
import pytest

from support.captures import capture, some
from support.hostile import hostile
from support.qemu_captures import qemu_rows
from support.tools import load_tool
from vcpuid import data, read
from vcpuid.cli import cli
from vcpuid.cpuid.names import by_bit, find, find_all
from vcpuid.cpuid.words import parse_bit
from vcpuid.diagnosis import diagnose
from vcpuid.diagnosis.messages import LAYERS, MessageForm, messages
from vcpuid.diagnosis.recognise import Recognised, recognise
from vcpuid.diagnosis.vocabulary import VOCABULARIES
from vcpuid.qemu.messages import MESSAGES
from vcpuid.releases import KERNELS
from vcpuid.rulebook import all_rules

BY_ID = {message.id: message for message in messages()}
DATA = Path(data.__file__).parent
HOLDS = {"kubevirt.migration": ["libvirt.live.missing"]}
"""Examples that hold another message: what a manager wraps."""


def ids(text: str) -> list[str]:
    return [match.message.id for match in recognise(text)]


def test_the_table_is_what_the_script_makes_of_its_sources() -> None:
    assert load_tool("messages").document() == (DATA / "messages.json").read_text(encoding="utf-8")
    assert len(BY_ID) == len(messages())


@pytest.mark.slow
def test_the_table_of_causes_is_what_the_script_makes_of_the_rules() -> None:
    """Takes some minutes; the next one sees whether a part of it is still so."""
    assert load_tool("clearing").document() == (DATA / "clearing.json").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_table_of_causes_has_what_some_hosts_make_of_the_rules() -> None:
    """A rule that is new, or that has another name or place, needs tools/clearing.py to be run again."""
    tool, table = load_tool("clearing"), json.loads((DATA / "clearing.json").read_text(encoding="utf-8"))
    files = tool.files()
    assert table["source"] == {"script": "tools/clearing.py", "captures": len(files), "kernels": list(KERNELS)}
    told = {(rule, place, cause): set(letters) for rule, letters, cause, places in table["rows"] for place in places.split()}
    first = [next(file for file in files if file.name.startswith(module)) for module in ("kvm-amd", "kvm-intel")]
    found = tool.worked_out([read(file) for file in dict.fromkeys((*first, *files[:: len(files) // 4]))], (KERNELS[0], KERNELS[-1]))
    assert {key: letters - told.get(key, set()) for key, letters in found.items() if letters - told.get(key, set())} == {}
    assert len(found) > len(told) / 3
    assert {rule for rule, *_ in told} <= {card.id for card in all_rules()}


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_an_example_is_its_row_and_no_other(message: MessageForm) -> None:
    assert ids(message.example) == [message.id, *HOLDS.get(message.id, [])]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_an_example_is_its_row_in_letters_of_either_case(message: MessageForm) -> None:
    first, rest = message.example[0], message.example[1:]
    for text in (first.swapcase() + rest, message.example.upper(), message.example.lower()):
        assert ids(text) == [message.id, *HOLDS.get(message.id, [])]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_what_an_example_names_is_the_same_in_letters_of_either_case(message: MessageForm) -> None:
    def told(text: str) -> list[tuple[str, str, str, bool]]:
        found = diagnose(text).findings
        return [(one.named.name.lower(), one.named.state, (one.named.remark or "").lower(), bool(one.causes)) for one in found]

    for text in (message.example.upper(), message.example.lower()):
        assert told(text) == told(message.example)


def test_what_is_in_another_case_is_found_beside_what_is_as_it_is_printed() -> None:
    text = "Unable to find CPU model 'Broadwel'\nwarning: host doesn't support requested feature: CPUID.07H:EBX.avx2 [bit 5]"
    assert sorted(ids(text)) == ["qemu.missing.old", "qemu.model.unknown"]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_a_row_is_sound(message: MessageForm) -> None:
    assert message.vocabulary in VOCABULARIES
    assert message.layer in LAYERS
    assert message.compiled.search("") is None
    assert message.meaning
    assert message.evidence
    assert not any(re.search(r"\s\s|[^\S ]", probe) for probe in message.probes), "a line that has it must have it when lines are joined"
    for feature in message.features:
        find(feature)
    found = message.compiled.search(message.example)
    assert found is not None
    list(VOCABULARIES[message.vocabulary]({name: text for name, text in found.groupdict().items() if text is not None}))


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_a_row_claims_nothing_out_of_memory(message: MessageForm) -> None:
    assert re.search(r"found in|source|captures|reports?|#\d|strings|list|KB|mailing|guides", message.evidence)


@pytest.mark.parametrize("message", [message for message in messages() if message.query], ids=lambda message: message.id)
def test_a_query_is_a_command_line_of_vcpuid(message: MessageForm) -> None:
    words = message.query.split()
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    command.make_context("vcpuid", words, resilient_parsing=True, **cli.context_settings)  # click keeps the help option that it makes here
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    assert arguments or all(word.startswith("--") or words[words.index(word) - 1].startswith("--") for word in words)


@pytest.mark.bounds
@pytest.mark.parametrize("any_case", some([True, False], 2))
@pytest.mark.parametrize("message", messages(), ids=lambda message: message.id)
def test_no_pattern_is_slow_on_hostile_text(message: MessageForm, any_case: bool) -> None:
    """The bound is ten times the goal, which benchmarks/bench_messages.py measures; a pattern that looks back and forth takes seconds."""
    pattern = message.in_any_case if any_case else message.compiled  # the former goes the same ways, and is the slower one
    for name, text in hostile(message).items():
        before = process_time()
        for _ in islice(pattern.finditer(text), 1000):
            pass
        assert process_time() - before < 0.1, name


def sample(template: str) -> str:
    """Print one of QEMU's messages with fields as QEMU has them."""
    named = {
        "feature": "CPUID[eax=07h,ecx=00h].EBX.avx2 [bit 5]", "sign": "+", "part": " key", "level": "core", "least": 32, "most": 52,
        "what": "SMP",
    }  # fmt: skip
    fields: dict[str, object] = {}
    for _, name, spec, _ in Formatter().parse(template):
        if name:
            fields[name] = named.get(name, {"d": 44, "x": 0x48E}.get(spec or "", "word"))
    return template.format(**fields)


@pytest.mark.parametrize("name", MESSAGES)
def test_all_that_our_model_of_qemu_prints_is_known(name: str) -> None:
    assert ids(f"qemu-system-x86_64: {sample(MESSAGES[name].template)}")


def lines_of_real_qemus() -> set[str]:
    files = ("early", "machines", "more", "options", "random", "sets")
    return {line for name in files for row in qemu_rows(name) for line in row.get("stderr", ())}


def test_every_line_of_real_qemus_is_known() -> None:
    lines = lines_of_real_qemus()
    assert len(lines) > 1000
    assert not [line for line in lines if not recognise(line)]


def test_every_bit_in_a_line_of_real_qemus_comes_back() -> None:
    """The label's place comes back where the label names one; where it names a feature, the feature."""
    label = re.compile(r"((?:CPUID|MSR)\S*?(?:E[ABCD]X|\))(?:\.([\w.-]+))? \[bit \d+\])")
    tried = 0
    for line in lines_of_real_qemus():
        given = label.search(line)
        if given is None:
            continue
        (match,) = recognise(line)
        if not match.message.vocabulary:
            continue
        tried += 1
        (named, *_) = named_by(match)
        if given[2] and not given[1].startswith("CPUID.0DH:EAX"):
            assert named in [feature.place for feature in find_all(given[2])], line
        else:
            place = parse_bit(given[1])
            assert place is not None
            if by_bit(place) is not None and place.word != parse_bit("0xd.0.eax.0").word:  # type: ignore[union-attr]
                assert named == place, line
    assert tried > 700


def named_by(match: Recognised) -> list[object]:
    return [one.feature.place for one in VOCABULARIES[match.message.vocabulary](match.groups) if one.feature is not None]


def lines_of_real_libvirts() -> set[str]:
    """What libvirt said, and the logs of QEMU that it keeps."""
    said: set[str] = set()
    for file in sorted(capture("rows.jsonl.xz", "libvirt").parent.glob("*.jsonl.xz")):
        with lzma.open(file, "rt", encoding="utf-8") as rows:
            answers = [told for row in map(json.loads, rows) for told in (row.get("error"), row.get("answer")) if isinstance(told, dict)]
        for told in answers:
            log = told.get("log") or ""
            said |= {told.get("message", ""), *(log if isinstance(log, list) else log.splitlines())}
    return said - {""}


@pytest.mark.long
def test_every_line_of_real_libvirts_is_known() -> None:
    lines = lines_of_real_libvirts()
    assert len(lines) > 1000
    assert not [line for line in lines if not recognise(line)]


@pytest.mark.long
def test_every_feature_in_a_line_of_real_libvirts_comes_back() -> None:
    listed = re.compile(r"(?:required|missing|forbidden|[Ee]xtra) features: ([\w.\-]+(?:, ?(?!missing features)[\w.\-]+)*)")
    tried = 0
    for line in lines_of_real_libvirts():
        for names in listed.findall(line):
            tried += 1
            found = [one.text for match in recognise(line) for one in VOCABULARIES[match.message.vocabulary](match.groups) if one.feature]
            assert set(re.split(", ?", names)) <= set(found), line
    assert tried > 300
