"""Drivers of the kernel's crypto API by feature."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid.path.pipeline import guest_view, resolve
from vcpuid.software import software_cpu
from vcpuid.software.crypto import drivers

SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-dmr@6.12"


def of(cpu: str, name: str) -> dict[str, str]:
    return {one.algorithm: one.driver for one in drivers(software_cpu(guest_view(resolve(cpu, host=host(name)))))}


@pytest.mark.parametrize(
    ("cpu", "host_name", "algorithm", "driver"),
    [
        ("host", SAPPHIRE, "xts(aes)", "xts-aes-vaes-avx10_512"),
        ("host", SAPPHIRE, "sha256", "sha256-ni"),
        ("host,-vaes", SAPPHIRE, "gcm(aes)", "generic-gcm-aesni-avx"),
        ("host,-sha-ni", SAPPHIRE, "sha256", "sha256-avx2"),
        ("host,-sha-ni,-bmi2", SAPPHIRE, "sha256", "sha256-avx"),
        ("host,-avx512bw", SAPPHIRE, "xts(aes)", "xts-aes-vaes-avx2"),
        ("host,-avx512bw", SAPPHIRE, "gcm(aes)", "generic-gcm-aesni-avx"),
        ("host,-xsave", SAPPHIRE, "sha512", "sha512-ssse3"),
        ("host,-aes", SKYLAKE, "xts(aes)", "xts(ecb(aes-generic))"),
        ("host,-pclmulqdq", SKYLAKE, "ghash", "ghash-generic"),
        ("qemu64", SKYLAKE, "sha1", "sha1-generic"),
    ],
)
def test_the_driver_that_serves(cpu: str, host_name: str, algorithm: str, driver: str) -> None:
    assert of(cpu, host_name)[algorithm] == driver


def test_slow_512_bit_vectors_are_left_alone() -> None:
    assert of("host,family=6,model=106", SAPPHIRE)["gcm(aes)"] == "generic-gcm-vaes-avx10_256"
