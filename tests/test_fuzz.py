"""The fuzzers find: a fault that is planted is found, made small, kept, and found again in the file that keeps it."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fuzz import __main__ as command
from fuzz import grammar, mutate, seeds, supervise, trees
from fuzz.campaign import Campaign, Tally, attempt, draw
from fuzz.finds import Failure, failure_of, load
from fuzz.inprocess import Run, run
from fuzz.limits import TooLong, limited
from fuzz.minimise import minimise
from fuzz.printed import hold_clean
from fuzz.target import Broken, Case, Target, hold
from fuzz.targets import TARGETS, parties, texts, vcpu, verbs
from vcpuid import kvm, sources
from vcpuid.cpuid import CpuidTable
from vcpuid.errors import InputError
from vcpuid.formats import FORMATS
from vcpuid.reasons import Result

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
SEED = 7


def found(target: Target, folder: Path, inputs: int, first: int = 0) -> Tally:
    """Run a campaign over so many inputs, with no more time than that takes."""
    return Campaign(target, SEED, folder).run(60, first, most=inputs)


def toy(check: Callable[[Case], str], **more: Any) -> Target:
    """A target whose inputs are small."""
    return Target(
        "toy", "for tests", lambda random: {"text": "".join(random.choices("abc\n", k=50)), "number": random.randrange(99)}, check, **more
    )


def only(tally: Tally) -> tuple[str, Path]:
    """The one kind of find that a run came to, and its file."""
    assert len(tally.finds) == 1, tally.finds
    ((kind, row),) = tally.finds.items()
    return kind, Path(row["file"])


# Planted faults, a target each


def test_a_reader_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = sources.read_all

    def faulty(path: str) -> object:
        if b"CPU" in Path(path).read_bytes():
            raise IndexError("list index out of range")
        return read(path)

    monkeypatch.setattr(sources, "read_all", faulty)
    kind, file = only(found(TARGETS["readers"], tmp_path, 40))
    assert kind.startswith("IndexError in ")
    assert load(file).case == {"text": "CPU"}
    assert attempt(TARGETS["readers"], load(file).case).kind == kind  # type: ignore[union-attr]  # a str would fail the test too
    monkeypatch.undo()
    assert attempt(TARGETS["readers"], load(file).case) == "refused"


def test_a_refusal_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> object:
        raise InputError(" ")

    monkeypatch.setattr(sources, "read_all", refuse)
    kind, file = only(found(TARGETS["readers"], tmp_path, 2))
    assert kind == "law: a refusal names the file"
    assert load(file).case == {"text": ""}


def test_a_form_that_loses_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.targets.readers.losses", lambda cpus, form: [])
    kinds = found(TARGETS["readers"], tmp_path, 400).finds
    assert any("does not lose comes back" in kind for kind in kinds)


def test_a_text_that_its_reader_stumbles_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, read = texts.READERS["smp"]
    monkeypatch.setattr(texts, "READERS", {"smp": (maker, lambda given: read(given) if "=0" not in given[0] else int("x"))})
    kinds = found(TARGETS["texts"], tmp_path, 60).finds
    (row,) = [row for kind, row in kinds.items() if kind.startswith("ValueError")]
    assert load(Path(row["file"])).case["given"][0] == "=0"


def test_a_party_whose_decisions_do_not_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supported = kvm.supported

    def faulty(*given: Any) -> Result:
        result = supported(*given)
        return Result(CpuidTable(e._replace(ebx=e.ebx ^ 1 << 9) if e.function == 7 else e for e in result.table), result.decisions)

    monkeypatch.setattr(kvm, "supported", faulty)
    monkeypatch.setattr(parties, "_ASKED", {"kvm": parties._ASKED["kvm"]})
    kind, file = only(found(TARGETS["parties"], tmp_path, 6))
    assert kind == "law: KVM: replaying the decisions gives the words"
    assert len(load(file).case["host"]) <= 2


@pytest.mark.kvm
def test_a_look_up_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if lack := vcpu.missing():
        pytest.skip(lack)
    lookup = kvm.lookup
    monkeypatch.setattr(kvm, "lookup", lambda *given, **more: lookup(*given, **more)._replace(eax=5))
    kind, _ = only(found(TARGETS["vcpu"], tmp_path, 12))
    assert kind == "law: CPUID answers as the model looks it up"


def test_a_verb_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> object:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("vcpuid.cpuid.card.look_up", faulty)
    case: Case = {"arguments": ["names", "avx2", "--format", "json"], "made": ""}
    failure = attempt(TARGETS["verbs"], case)
    assert isinstance(failure, Failure)
    assert "ZeroDivisionError in " in failure.kind


@pytest.mark.parametrize("arguments", [["record", "--host"], ["trace"], ["explore", "host0.txt", "--no-browser"]], ids=" ".join)
def test_a_verb_that_goes_on_until_somebody_ends_it_ends(arguments: list[str]) -> None:
    """With its answer, or, where this machine does not let it begin, saying so."""
    verbs.TARGET.prepare()
    with limited(15, 512):
        assert verbs.check({"arguments": arguments, "made": ""}) in ("status 0", "status 4")


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["decode", "host0.txt", "-o", "json"], "json"),
        (["decode", "--format=csv", "host0.txt"], "csv"),
        (["decode", "host0.txt"], None),
        (["trace", "--format", "json", "/bin/true"], "json"),
        (["trace", "/bin/true", "--format", "json"], None),  # which is what /bin/true is given
        (["convert", "host0.txt", "--to", "json", "-o", "csv"], None),
    ],
)
def test_the_form_of_an_answer_is_the_one_that_the_verb_reads(arguments: list[str], form: str | None) -> None:
    assert verbs.form_of(arguments) == form


def test_a_fault_that_is_printed_is_told_by_its_place() -> None:
    printed = """vcpuid: a fault
Traceback (most recent call last):
  File "/a/src/vcpuid/cli/names.py", line 5, in command
  File "/a/src/vcpuid/cpuid/words.py", line 17, in parse_bit
ValueError: 9 is too many
"""
    assert str(verbs._fault(printed)).startswith("no fault, ValueError in cpuid/words.py:parse_bit: ")
    assert verbs._fault(printed).law == verbs._fault(printed.replace("17", "18").replace("9 is", "8 is")).law


@pytest.mark.parametrize(
    ("run_", "form", "law"),
    [
        (Run(70, "", "vcpuid: a fault\n"), None, "the exit status is one of 0 to 4"),
        (Run(3, "", ""), None, "an error is told"),
        (Run(3, "", "vcpuid: a\nb\n"), None, "a line on standard error says whose it is"),
        (Run(3, "", "vcpuid: a\x1b[31m\n"), None, "standard error has no control characters"),
        (Run(1, "", "Traceback (most recent call last):\n"), None, "no traceback"),
        (Run(0, "a\x9b31m\n", ""), "table", "standard output has no control characters"),
        (Run(0, '{"a": NaN}', ""), "json", "JSON parses"),
        (Run(0, '{"": 1}', ""), "json", "no JSON key is empty"),
        (Run(0, '{"a": 1}\n{"a": \n', ""), "jsonl", "JSON parses"),
        (Run(0, "a,b\n1\n", ""), "csv", "CSV rows are of one length"),
        (Run(0, "a,b\n1,=x\n", ""), "csv", "no CSV cell begins a formula"),
    ],
)
def test_what_a_verb_must_not_print(run_: Run, form: str | None, law: str) -> None:
    with pytest.raises(Broken, match=f"a verb: {law}"):
        hold_clean(run_, form, "a verb")


def test_a_verb_in_this_process_is_as_users_see_it() -> None:
    done = run(["names", "avx2", "--format", "lines"])
    assert (done.status, done.stderr) == (0, "")
    assert "avx2" in done.stdout
    assert run(["names", "nosuch"]).stderr.startswith("vcpuid: ")


# What keeps, limits and makes small


def test_what_takes_too_long_is_found_even_where_exceptions_are_swallowed() -> None:
    def endless(case: Case) -> str:
        while True:
            with suppress(Exception):
                sum(range(10**4))

    failure = attempt(toy(endless, seconds=0.2), {})
    assert isinstance(failure, Failure)
    assert failure.kind.startswith("TooLong in ")
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


def test_what_takes_too_much_memory_is_found() -> None:
    failure = attempt(toy(lambda case: str(len(bytearray(200 << 20))), mebibytes=50), {})
    assert isinstance(failure, Failure)
    assert failure.kind.startswith("MemoryError in ")
    assert attempt(toy(lambda case: str(len(bytearray(200 << 20))), mebibytes=300), {}) == str(200 << 20)


def test_what_all_inputs_need_counts_for_none_of_them() -> None:
    held: list[bytearray] = []
    needy = toy(lambda case: str(len(held[0])), mebibytes=50, prepare=lambda: held or held.append(bytearray(200 << 20)))
    assert attempt(needy, {}) == attempt(needy, {}) == str(200 << 20)


def test_waiting_counts_as_well() -> None:
    with pytest.raises(TooLong), limited(0.01, 100):
        time.sleep(30)


@pytest.mark.parametrize(
    ("case", "fails", "small"),
    [
        ({"text": "a\nbc\nd\n" * 20}, lambda case: "c" in case.get("text", ""), {"text": "c"}),
        ({"list": [5, 600, {"a": "xyz", "b": 1}], "more": True}, lambda case: "y" in str(case), {"list": [{"a": "y"}]}),
        ({"number": 1 << 40}, lambda case: case.get("number", 0) > 1000, {"number": 1 << 10}),
        ({"a": 1}, lambda case: case == {"a": 1}, {"a": 1}),
    ],
)
def test_a_case_is_made_small(case: Case, fails: Callable[[Case], bool], small: Case) -> None:
    before = json.dumps(case)
    assert minimise(case, fails, 10) == small
    assert json.dumps(case) == before


def test_making_small_ends_when_its_time_is_up() -> None:
    began = time.monotonic()
    assert minimise({"text": "x" * 1000}, lambda case: not time.sleep(0.01) and len(case.get("text", "")) > 998, 0.2)
    assert time.monotonic() - began < 2


def test_finds_are_told_apart_by_what_failed_and_not_by_the_input() -> None:
    def kind(text: str, error: type[Exception] = ValueError) -> str:
        return failure_of(error(text)).kind

    assert kind("bad value 'abc' at 17") == kind("bad value 'x' at 5")
    assert kind("bad value") != kind("bad key")
    assert kind("bad") != kind("bad", KeyError)
    assert kind("bad", struct.error).startswith("struct.error in ")
    assert failure_of(Broken("a law", "one")).kind == failure_of(Broken("a law", "another")).kind


def test_one_kind_is_kept_once_and_counted(tmp_path: Path) -> None:
    def check(case: Case) -> str:
        hold("a" not in case["text"], "no a")
        return "fine"

    tally = found(toy(check), tmp_path, 20)
    ((kind, row),) = tally.finds.items()
    assert (kind, row["count"], tally.inputs) == ("law: no a", 20, 20)
    assert [load(path).case["text"] for path in tmp_path.iterdir()] == ["a"]


# Runs as a whole


def test_every_input_can_be_made_again_in_another_process() -> None:
    code = (
        "import hashlib, json; from fuzz.campaign import draw; from fuzz.targets import TARGETS\n"
        "print({n: hashlib.sha256(json.dumps([draw(t, 3, i) for i in (0, 5, 60)]).encode()).hexdigest() for n, t in TARGETS.items()})"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_what_ends_the_process_is_a_find_and_the_rest_goes_on(tmp_path: Path) -> None:
    def check(case: Case) -> str:
        if case["number"] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return "fine"

    target = toy(check)
    fatal = draw(target, SEED, 3)["number"]
    told: list[str] = []
    tally = supervise.supervise(target, SEED, 1.5, tmp_path, told.append)
    kind, file = only(tally)
    assert kind == "the process ended: SIGKILL"
    assert load(file).case == draw(target, SEED, load(file).number)
    assert tally.inputs > 4
    assert not list(tmp_path.glob(".*"))


def test_the_command_says_what_was_found_and_how_to_try_it_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(case: Case) -> str:
        hold(case.get("number") != 5, "no 5", case)
        return "fine"

    monkeypatch.setitem(TARGETS, "toy", toy(check))
    folder = str(tmp_path)
    assert command.main(["toy", "--seconds", "1", "--seed", "3", "--finds", folder]) == 1
    printed = capfd.readouterr().out
    assert "seed 3" in printed
    assert "toy: law: no 5" in printed
    (file,) = tmp_path.iterdir()
    assert f"make fuzz REPLAY={file}" in printed
    assert command.main(["--replay", str(file)]) == 1
    assert "FOUND law: no 5" in capfd.readouterr().out
    number = str(load(file).number)
    assert command.main(["toy", "--one", "--seed", "3", "--number", number]) == 1
    monkeypatch.setitem(TARGETS, "toy", toy(lambda case: "fine"))
    assert command.main(["--replay", str(file)]) == 0
    assert command.main(["toy", "--seconds", "0.2", "--finds", folder]) == 0


def test_a_target_that_cannot_run_here_is_passed_over_with_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "toy", toy(lambda case: "fine", missing=lambda: "there is none"))
    assert command.main(["toy", "--seconds", "0.2"]) == 0
    assert "toy: skipped, there is none" in capsys.readouterr().out


@pytest.mark.parametrize("arguments_", [["nosuch"], ["readers", "--one"], ["--one", "--seed", "1", "--number", "1"]])
def test_wrong_usage(arguments_: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments_)
    assert ended.value.code == 2


# What inputs are made of


def test_every_form_has_a_text_to_start_from() -> None:
    assert {form.name for form in FORMATS if form.read is not None} == set(seeds.texts())


@pytest.mark.parametrize("change", dict.fromkeys(mutate.CHANGES), ids=lambda change: change.__name__)
def test_changes_change_and_take_nothing_at_all_too(change: mutate.Change) -> None:
    data = b"RAW 00000000.0 0000000d 756e6547\nRAW 00000007.0 ffffffff 0\n" * 9
    assert any(change(Random(number), data) != data for number in range(10))
    for number in range(30):
        change(Random(number), b"")


def test_documents_stay_documents() -> None:
    for number in range(200):
        changed = trees.change_json(Random(number), b'{"a": [1, {"b": "c"}], "d": null}')
        assert changed is not None
        json.loads(changed)
    assert any(b"policy" in (trees.change_xml(Random(number), b"<cpu><model>a</model></cpu>") or b"") for number in range(200))
    assert trees.change_json(Random(0), b"none") is None
    assert trees.change_xml(Random(0), b"none") is None


def test_the_grammar_knows_what_every_qemu_knows() -> None:
    assert {"host", "EPYC-Milan", "qemu64"} <= set(grammar.models())
    assert {"avx2", "level-func7", "hv-relaxed"} <= set(grammar.properties())
    assert {"pc-q35-7.2", "q35", "microvm"} <= set(grammar.machines())
