"""Which clock a Linux guest takes, by flag."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid.path.pipeline import guest_view, resolve
from vcpuid.software import software_cpu
from vcpuid.software.clock import Clocks, clocks

HOST = "kvm-intel.corei7_skylake_x@6.12"


def of(cpu: str) -> Clocks:
    return clocks(software_cpu(guest_view(resolve(cpu, host=host(HOST)))))


@pytest.mark.parametrize(
    ("cpu", "chosen"),
    [
        ("Haswell-noTSX", "kvm-clock"),
        ("Haswell-noTSX,+invtsc", "tsc"),
        ("Haswell-noTSX,-kvmclock", "tsc"),
        ("Haswell-noTSX,hv-time", "kvm-clock"),  # Linux prefers KVM where it stands behind Hyper-V
        ("Haswell-noTSX,kvm=off,hv-time,hv-vpindex", "hyperv_clocksource_tsc_page"),
        ("Haswell-noTSX,kvm=off,hv-vpindex", "hpet"),
        ("Haswell-noTSX,kvm=off,hv-time", "tsc"),  # without hv-vpindex Linux wants nothing of Hyper-V
        ("Haswell-noTSX,kvm=off", "tsc"),
        ("Haswell-noTSX,-tsc,-kvmclock", "hpet"),
    ],
)
def test_the_clocksource(cpu: str, chosen: str) -> None:
    found = of(cpu)
    assert found.chosen.name == chosen
    ratings = [clock.rating for clock in found.sources if clock.rating is not None]
    assert ratings == sorted(ratings, reverse=True)
    assert all(clock.why for clock in found.sources)


def test_an_invariant_tsc_goes_above_kvms_clock() -> None:
    sources = {clock.name: clock.rating for clock in of("Haswell-noTSX,+invtsc").sources}
    assert (sources["tsc"], sources["kvm-clock"]) == (300, 299)


def test_the_tick() -> None:
    assert of("Haswell-noTSX,+tsc-deadline").timer.name == "lapic-deadline"
    assert of("Haswell-noTSX,-tsc-deadline").timer.name == "lapic"
    assert of("Haswell-noTSX,kvm=off,hv-time,hv-vpindex,hv-synic,hv-stimer").timer.name == "Hyper-V clockevent"


@pytest.mark.x86
def test_this_machine_keeps_time_by_what_we_say() -> None:
    from pathlib import Path

    from vcpuid import sources

    kernel = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    if not kernel.exists():
        pytest.skip("this system does not tell its clocksources")
    available = kernel.read_text(encoding="utf-8").split()
    told = [clock.name for clock in clocks(software_cpu(sources.read("live").raw)).sources if clock.rating is not None]
    assert [name for name in told if name in available] == available
