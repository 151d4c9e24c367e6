"""The kernel that slow tests boot, and the tool that boots it."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from support.tools import load_tool


@pytest.fixture(scope="session")
def booting() -> ModuleType:
    """tools/boot_guest.py."""
    return load_tool("boot_guest")


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
