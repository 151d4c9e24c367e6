"""The scripts of tools/, as modules."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str) -> ModuleType:
    """Import tools/NAME.py, with those beside it in reach."""
    with patch.object(sys, "path", [str(TOOLS), *sys.path]):
        return import_module(name)
