"""Why a bit is what it is: rules, the decisions they made, and the trace of a whole path.

A party turns the words it is given into the words it hands on. For every bit that it changes it leaves one `Decision`, which names the
`Rule`; bits that no decision names were kept. The laws, held by tests/property/test_decision_laws.py:

* replaying the decisions over the words given yields the words handed on;
* the last decision that names a bit carries the value that the bit ended with;
* a bit that differs before and after is named by at least one decision.
"""

from vcpuid.reasons.ledger import Decision, Ledger, Result, Unrecorded, replay
from vcpuid.reasons.rule import Action, Rule
from vcpuid.reasons.trace import Basis, Step, Trace, read_bit, read_register

__all__ = ["Action", "Basis", "Decision", "Ledger", "Result", "Rule", "Step", "Trace", "Unrecorded", "read_bit", "read_register", "replay"]
