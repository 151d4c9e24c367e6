"""vcpuid rules: looked up by id and by words, in every format, and what it says where nothing is found."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner, Result

from vcpuid.cli import cli
from vcpuid.diagnosis.messages import messages
from vcpuid.rulebook import all_rules


def rules(*words: str) -> Result:
    return CliRunner().invoke(cli, ["rules", *words])


def test_one_rule_in_full() -> None:
    done = rules("linux.option.fred-not-on")
    assert done.exit_code == 0
    told = dict(line.split(None, 1) for line in done.stdout.splitlines()[2:])
    assert told["id"].strip() == "linux.option.fred-not-on"
    assert told["history"].startswith("since 6.12 (commit 989b5cfaa7b6")
    assert told["history"].rstrip().endswith("until 7.0")
    assert "not in 6.11.11" in told["evidence"]
    assert told["remedy"].strip() == "boot with fred=on"


def test_a_remedy_is_what_one_can_do_and_stands_within_a_sentence() -> None:
    assert not [card.id for card in all_rules() if card.remedy and not card.remedy[0].islower()]


def test_several_words_need_no_quotes() -> None:
    assert rules("nested", "EPT").stdout == rules("nested EPT").stdout
    assert rules("VMX", "control").exit_code == 0


def test_a_reason_that_names_a_cause_is_plain_without_one() -> None:
    assert "{cause}" not in rules().stdout


def test_a_captured_rule_names_a_capture_and_a_read_one_says_so() -> None:
    assert "captured: tests/captures/" in rules("qemu.model.asks").stdout
    unseen = next(card.id for card in all_rules() if card.history.known == "read")
    assert "no capture shows it yet" in rules(unseen).stdout


def test_a_hazard() -> None:
    done = rules("tsx.no-hardware")
    assert "severity" in done.stdout
    assert "known" not in done.stdout


@pytest.mark.parametrize(
    ("form", "ids"),
    [
        ("json", lambda text: [row["rule"] for row in json.loads(text)["rules"]]),
        ("jsonl", lambda text: [json.loads(line)["rule"] for line in text.splitlines()]),
        ("csv", lambda text: [row["rule"] for row in csv.DictReader(text.splitlines())]),
        ("lines", lambda text: [line.split()[0] for line in text.splitlines()]),
    ],
)
def test_all_rules_in_every_format(form: str, ids: object) -> None:
    done = rules("--format", form)
    assert done.exit_code == 0
    assert ids(done.stdout) == [card.id for card in all_rules()]  # type: ignore[operator]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "lines"])
def test_what_is_not_found_names_what_is_near(form: str) -> None:
    done = rules("kvm.vmx.nestd", "--format", form)
    assert done.exit_code == 1
    assert done.stderr == "vcpuid: no rule has 'kvm.vmx.nestd'; did you mean kvm.vmx.nested or kvm.svm.nested or kvm.vmx.cet?\n"
    assert "nest" not in done.stdout


def test_of_a_feature_that_no_rule_has_it_is_told_who_explains_it() -> None:
    done = rules("vmx-ept")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "vcpuid: no rule has 'vmx-ept', which is a feature: did you mean vcpuid explain vmx-ept?\n"


def test_nothing_is_near_to_nonsense_however_long() -> None:
    done = rules("x" * 1_000_000)
    assert done.exit_code == 1
    assert done.stderr == f"vcpuid: no rule has {'x' * 60!r}\n"


def test_words_are_searched_for() -> None:
    done = rules("svm_set_cpu_caps NESTED", "--format", "lines")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"kvm.svm.nested", "kvm.svm.nested-part", "kvm.svm.npt"}


def test_the_id_of_a_message_is_said_to_be_one() -> None:
    for message in messages():
        done = rules(message.id)
        said = f"vcpuid: {message.id} is no rule but a message of {message.program}'s that vcpuid diagnose knows, as in: "
        assert done.stderr.startswith(said)
        assert done.exit_code == (0 if done.stdout else 1)  # its words may be those of rules
