"""Every rule has an id of its own, is listed, and says what party it is of and where it comes from."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from vcpuid.linux.rules import ALWAYS
from vcpuid.reasons import Rule
from vcpuid.reasons.registry import enter, entered
from vcpuid.rulebook import HAZARDS, Card, all_rules, look_up, near

PARTY_OF_FOLDER = {
    "linux": "linux",
    "kvm": "kvm",
    "qemu": "qemu",
    "libvirt": "libvirt",
    "vmm": "firecracker recorded",
    "answers": "observed silicon",
    "hazards": HAZARDS,
}
"""Where rules are made, and the first parts of their ids; of hazards any."""

NO_SOURCE = ("qemu.expand.conflict", "qemu.user.avx10-version")
"""What QEMU 11.1 does, whose source was not at hand."""

EVERY_MODULE = """
import importlib, pkgutil, sys
import vcpuid
from vcpuid.reasons import registry, rule

folder_of, note = {}, registry.enter
def noting(rule):
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] != "__main__":
        name = frame.f_globals["__name__"]
        if name.startswith("vcpuid.") and not name.startswith("vcpuid.reasons") and name != "vcpuid.hazards.rule":
            folder_of.setdefault(rule.id, ".".join(name.split(".")[1:-1]))
        frame = frame.f_back
    note(rule)

rule.enter = registry.enter = noting
for module in pkgutil.walk_packages(vcpuid.__path__, "vcpuid."):
    if module.name != "vcpuid.__main__":
        importlib.import_module(module.name)
for rule, folder in folder_of.items():
    print(rule, folder)
"""


@pytest.fixture(scope="module")
def folders() -> dict[str, str]:
    """Every rule that any module of the package makes, with the folder of the module; told by a process of its own."""
    done = subprocess.run([sys.executable, "-c", EVERY_MODULE], capture_output=True, text=True, check=True, timeout=120)
    return dict(line.split() for line in done.stdout.splitlines())


def test_no_rule_of_any_module_is_missing(folders: dict[str, str]) -> None:
    assert len(folders) > 350
    assert {card.id for card in all_rules()} == folders.keys()


def test_an_id_begins_with_its_party(folders: dict[str, str]) -> None:
    hazards = {card.id for card in all_rules() if card.party == HAZARDS}
    for rule, folder in folders.items():
        wanted = PARTY_OF_FOLDER[folder.partition(".")[0]]
        assert (rule in hazards) == (folder == HAZARDS)
        assert folder == HAZARDS or rule.partition(".")[0] in wanted.split(), rule


def test_two_rules_cannot_have_one_id() -> None:
    with pytest.raises(ValueError, match=r"two rules are called linux\.always"):
        replace(ALWAYS, reason="Set on some processors")
    assert ALWAYS in entered()


def test_the_same_rule_may_come_again() -> None:
    assert replace(ALWAYS) == ALWAYS
    enter(ALWAYS)
    assert pickle.loads(pickle.dumps(ALWAYS)) == ALWAYS


def test_a_rule_of_another_version_can_be_unpickled() -> None:
    """What a user stored before a sentence was changed must not fail."""
    data = pickle.dumps(ALWAYS).replace(b"for code patching", b"for some patching")
    assert pickle.loads(data).reason == "set on every processor, for some patching"


@pytest.mark.parametrize("card", all_rules(), ids=lambda card: card.id)
def test_a_rule_says_what_it_must(card: Card) -> None:
    assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", card.id)
    assert card.reason
    if card.party in ("linux", "kvm", "qemu") and card.id not in NO_SOURCE:
        assert card.source
        assert re.search(r"[a-z]\w+[*)]*,? .*\w\.[ch]\b", card.source), "function and file"


def test_rules_are_found_by_id_and_by_words() -> None:
    assert [card.id for card in look_up("kvm.vmx.nested")] == ["kvm.vmx.nested"]
    assert {"kvm.vmx.nested", "kvm.svm.nested"} <= {card.id for card in look_up("NESTED virtualization")}
    assert {card.id for card in look_up("vmx_set_cpu_caps")} >= {"kvm.vmx.nested"}
    assert look_up("no rule says this") == look_up("") == ()
    assert near("kvm.vmx.nestd")[0] == "kvm.vmx.nested"
    assert all(isinstance(rule, Rule) or rule.id in {card.id for card in all_rules()} for rule in entered())


def test_a_rules_reason_can_stand_within_a_sentence() -> None:
    """It follows a colon, stands in brackets, or behind another one: it begins with a capital only where that is a name's."""
    names = ("Atom", "Firecracker", "Hygon", "Hyper-V", "Intel", "Linux", "Quark", "VMware", "Xen", "Xeon", "Zen")
    begins = [card.reason for card in all_rules() if card.severity is None and card.reason[0].isupper() and card.reason[1].islower()]
    assert [reason for reason in begins if not reason.startswith(names)] == []
