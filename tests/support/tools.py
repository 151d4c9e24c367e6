"""The scripts of tools/, as modules."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str) -> ModuleType:
    """Import tools/NAME.py, with those beside it in reach."""
    with patch.object(sys, "path", [str(TOOLS), *sys.path]):
        return import_module(name)


def load_module(file: Path) -> ModuleType:
    """Import a file that is beside no module of ours."""
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
