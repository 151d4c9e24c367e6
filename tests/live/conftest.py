"""The kernel that slow tests boot, and the tool that boots it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="session")
def booting() -> ModuleType:
    """tools/boot_guest.py."""
    sys.path.insert(0, str(TOOLS))
    try:
        import boot_guest
    finally:
        sys.path.remove(str(TOOLS))
    return boot_guest


@pytest.fixture(scope="session")
def kernel(booting: ModuleType) -> Path:
    """The image that VCPUID_KERNEL names, else one that is installed."""
    named = os.environ.get("VCPUID_KERNEL")
    if named:
        return Path(named)
    try:
        return Path(booting.find_kernel())
    except booting.Lacking as lack:
        pytest.skip(f"{lack}, and VCPUID_KERNEL names none")


@pytest.fixture(scope="session")
def qemu() -> str:
    """The QEMU that VCPUID_QEMU names, else the one that is installed."""
    return os.environ.get("VCPUID_QEMU") or "qemu-system-x86_64"
