"""From an error text that somebody pastes to the features it is about, who took them, and what to do.

`text` makes a paste plain, `recognise` finds the messages of data/messages.json in it, `vocabulary` finds features in these, `causes` says
what can have taken them where no host is told, and `diagnose` puts it together; with a host it asks `explain` and `verdict`.
"""

from vcpuid.diagnosis.answer import Diagnosis, Finding
from vcpuid.diagnosis.reading import diagnose, features

__all__ = ["Diagnosis", "Finding", "diagnose", "features"]
