"""What an exit costs is the one in the middle of several measurements; what none of them tells is assumed, and called so."""

from __future__ import annotations

import pytest

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import UnavailableError
from vcpuid.live.tiny_guest import ExitTime
from vcpuid.software.start import ASSUMED
from vcpuid.trace import cost


class FakeKvm:
    def __enter__(self) -> FakeKvm:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def supported_cpuid(self) -> CpuidTable:
        return CpuidTable()


@pytest.mark.parametrize(
    ("measured", "ns"),
    [
        ([0.0, 90.0, 5000.0, 91.0, 22.0], 90.0),
        ([0.0, 0.0, 0.0, 91.0, 92.0], None),
        ([None] * 5, None),
    ],
)
def test_of_several_measurements_the_one_in_the_middle_counts(
    monkeypatch: pytest.MonkeyPatch, measured: list[float | None], ns: float | None
) -> None:
    left = list(measured)
    monkeypatch.setattr(cost, "Kvm", FakeKvm)
    monkeypatch.setattr(cost, "time_exit", lambda *_, **__: ExitTime(1.0, left.pop(), 200))
    found = cost.here()
    assert (found.ns, found.how) == ((ASSUMED.ns, "assumed") if ns is None else (ns, "measured"))
    assert not left


def test_without_kvm_it_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise UnavailableError("no /dev/kvm")

    monkeypatch.setattr(cost, "Kvm", refused)
    assert cost.here() is ASSUMED
