"""Makes the stand-alone collector: one file out of the package's own modules, so that nothing of it is written twice.

From `collector.main` on, every definition that is needed is taken over as it stands in its module, and no other; of a class, the methods
whose names are used anywhere in the file. The file runs on Python 3.8, older than what the package needs, thanks to two differences:
annotations are never evaluated, so what they alone name is left out, and abstract collections come from `typing`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib.resources import files

_ROOT = ("vcpuid.sources.collector", "main")
_HEAD = '''#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa
"""Writes what this machine tells of its CPU and its KVM, as a snapshot for vcpuid: python3 vcpuid_collect.py > host.txt

Needs Linux on x86-64 and Python 3.8 or newer, nothing else, and changes nothing. Made by `vcpuid collect --script`; change vcpuid's
modules, which are named below, and not this file.
"""

from __future__ import annotations

'''
_TAIL = '''

if __name__ == "__main__":
    sys.exit(main())
'''


class _Module:
    """A module of the package, taken apart."""

    def __init__(self, name: str) -> None:
        self.name = name
        package, _, stem = name.rpartition(".")
        self.text = files(package).joinpath(f"{stem}.py").read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.body = ast.parse(self.text).body
        self.imports: dict[str, tuple[str, str | None]] = {}
        """Name here: the module it comes from, and its name there; None where it is the module itself."""
        self.definitions: dict[str, ast.stmt] = {}
        for node in self.body:
            if isinstance(node, ast.Import):
                self.imports |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
                self.imports |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
            else:
                self.definitions |= dict.fromkeys(_defined(node), node)
