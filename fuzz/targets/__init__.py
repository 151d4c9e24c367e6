"""The targets, each in a module of its own; all of them by name, in the order in which they run."""

from __future__ import annotations

from fuzz.target import Target
from fuzz.targets import arguments, coverage, parties, pastes, readers, texts, vcpu, verbs

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET for module in (readers, coverage, texts, pastes, arguments, parties, vcpu, verbs)
}
