"""A program as others write it with vcpuid; tools/check_dist.py runs it and type-checks it where nothing but the wheel is installed."""

from __future__ import annotations

import sys
import warnings

import vcpuid


def main(source: str) -> None:
    """Ask each part of the public face about a host."""
    host: vcpuid.Snapshot = vcpuid.read(source)
    told: vcpuid.Explanation = vcpuid.explain("avx2", cpu="EPYC-Milan", host=host, stack=vcpuid.Stack(qemu="11.1"))
    visible: bool | None = told.visible
    table: vcpuid.cpuid.CpuidTable = vcpuid.kvm.supported(host).table
    tables = vcpuid.qemu.guest_tables("EPYC-Milan", host=host).tables
    setup = vcpuid.Setup.of(host, vcpuid.Stack(kernel="6.8"))
    path: vcpuid.Path = vcpuid.resolve("EPYC-Milan", host=setup)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", vcpuid.RemarkWarning)
        vcpuid.kvm.supported(host, kernel="6.8")
    flags = vcpuid.linux.cpuinfo(host).flags
    pasted: vcpuid.Diagnosis = vcpuid.diagnose("Host CPU does not provide required features: rtm", host)
    argument: str = vcpuid.libvirt.ask({"do": "argv", "cpu": "<cpu mode='host-model'/>"}, host=host)["-cpu"]
    try:
        vcpuid.explain("no-such-feature", host=host)
    except vcpuid.InputError as error:
        cause: str = error.cause
    # An error by design: where the wheel's types are lost, nothing is left to ignore, and mypy says so.
    number: int = told.verdict  # type: ignore[assignment]
    asked = (argument, pasted.remedies)
    print("EPYC-Milan", visible, len(table), len(tables), path.remarks, len(flags), len(said), asked, cause, number, vcpuid.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
