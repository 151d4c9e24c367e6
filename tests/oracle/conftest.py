"""The modules of oracle/, which are scripts beside the package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ORACLE = Path(__file__).parents[2] / "oracle"


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import one of them by name."""
    monkeypatch.syspath_prepend(str(ORACLE))
    return importlib.import_module
