"""Brings a QEMU of the user's own, a distribution's patched one for example, into vcpuid: asks the binary and keeps its catalog."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcpuid import data
from vcpuid.errors import InputError, QemuError, UnavailableError
from vcpuid.live.installed import identity
from vcpuid.live.qemu_inquiry import catalog_of
from vcpuid.live.qmp import Qmp
from vcpuid.live.user_files import alone, write_whole
from vcpuid.releases import QEMUS, choose, number

SCHEMA = "vcpuid/qemu-import/1"
"""The form of `Imported.as_dict`."""

TCG_TURNS_OFF = ("vme",)
"""x86_tcg_cpu_instance_init, target/i386/tcg/tcg-cpu.c: what every model lacks by default under software emulation."""


@dataclass(frozen=True)
class Imported:
    """A QEMU that was brought in: its name for --qemu, the file that holds its catalog, and what could not be learned of it."""

    name: str
    file: Path
    source: str
    models: int
    new_models: tuple[str, ...]
    machines: int
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "source": self.source,
            "models": self.models,
            "new_models": list(self.new_models),
            "machines": self.machines,
            "file": str(self.file),
            "remarks": list(self.remarks),
        }


def import_qemu(binary: str, label: str = "imported", progress: Callable[[str, int, int], None] = lambda *_: None) -> Imported:
    """Ask a QEMU binary for its models, properties and machine types over QMP, and keep them in the user's data folder.

    No guest is started, no KVM is used, and -cpu host is never tried. The catalog is called RELEASE-LABEL, which --qemu takes from then
    on; where the binary is the QEMU installed on this machine, it is the default. Importing again replaces it. Raises InputError for a
    wrong label, UnavailableError where the binary cannot be run or is no QEMU.
    """
    if not label.replace("-", "").replace(".", "").isalnum() or not label.isascii():
        raise InputError(f"{label!r} is not a label: letters, digits, dots and dashes")
    found = shutil.which(binary)
    if found is None:
        raise UnavailableError(f"{binary}: no such program")
    path = Path(found).resolve()
    qemu, hidden = _start(str(path))
    with qemu:
        version = qemu.version["qemu"]
        release = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
        nearest = data.load(f"qemu-{choose(release, QEMUS, 'QEMU').tables}")
        name = f"{release}-{label}"
        catalog, remarks = catalog_of(qemu, nearest, name, progress, hidden)
    if number(release) < number(QEMUS[0]):
        remarks.append(f"QEMU {release} is older than {QEMUS[0]}, the oldest whose rules vcpuid has: those are used")
    known = {model["name"] for model in nearest["models"]}
    models = [model["name"] for model in catalog["models"]]
    return Imported(
        name=name,
        file=_keep(name, catalog, path),
        source=catalog["source"],
        models=len(models),
        new_models=tuple(model for model in models if model not in known),
        machines=len(catalog["machines"]),
        remarks=tuple(remarks),
    )


def _start(binary: str) -> tuple[Qmp, tuple[str, ...]]:
    """Start QEMU with the accelerator that leaves models as they are, or else with software emulation."""
    try:
        return Qmp([binary], machine="none", accel="qtest"), ()
    except QemuError:
        pass  # a build without qtest
    try:
        return Qmp([binary], machine="none", accel="tcg"), TCG_TURNS_OFF
    except QemuError as error:
        said = error.message.partition("\n")[0]
        raise UnavailableError(f"{binary} does not answer as a QEMU does: {said}") from None


def _keep(name: str, catalog: dict[str, Any], binary: Path) -> Path:
    """Write the catalog, and add it to the list of those that there are, which others may be doing right now."""
    folder = data.user_folder()
    file = folder / f"qemu-{name}.json"
    try:
        write_whole(file, json.dumps(catalog))
        with alone(folder / "lock"):
            write_whole(folder / "imported.json", json.dumps({**data.imported(), name: identity(binary)}))
    except OSError as error:
        raise UnavailableError(f"{error.filename or folder}: {error.strerror}") from None
    data.load.cache_clear()
    return file
