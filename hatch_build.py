"""Put man pages and completions into the wheel: they are made of the verbs (tools/share.py), in the moment in which it is built."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShareHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling 1.12, which Debian 12 has, knows no parameter
    """Makes what is installed below share/; an editable install has none of it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files, and name their folder to the builder."""
        if version == "editable":
            return
        root = Path(self.root)
        self._folder = tempfile.TemporaryDirectory(prefix="vcpuid-share-")
        made = [str(root / "tools" / "share.py"), self._folder.name, self.metadata.version]
        subprocess.run([sys.executable, "-c", _RUN, str(root / "src"), *made], check=True)
        self.build_config.target_config["shared-data"] = {f"{self._folder.name}/share": "share"}  # all hatchlings read it there

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take them away."""
        if version != "editable":
            self._folder.cleanup()


_RUN = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
"""Runs the script with the package's own source before whatever is installed."""
