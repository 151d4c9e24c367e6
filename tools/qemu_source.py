"""What a source tree of QEMU tells of properties and machine types, in the form in which the program answers over QMP.

For releases of which no program is at hand. The rows are those of qom-list-properties of the CPU type max and of query-machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from csource import strip

Row = dict[str, Any]

INHERITED = {
    "crash-information": "GuestPanicInformation",
    "hotpluggable": "bool",
    "hotplugged": "bool",
    "legacy-memory": "str",
    "memory": "link<memory-region>",
    "parent_bus": "link<bus>",
    "realized": "bool",
    "start-powered-off": "bool",
    "type": "string",
}
"""Properties of every CPU that target/i386 does not define (qom/object.c, hw/core/qdev.c, hw/core/cpu-*.c): those of 6.0 to 10.2."""

_KINDS = {"BIT64": "bool", "BOOL": "bool", "ON_OFF_AUTO": "OnOffAuto", "STRING": "str", "UINT64_CHECKMASK": "uint64"}
_DEFINED = re.compile(r'DEFINE_PROP_(\w+)\(\s*"([\w-]+)",\s*X86CPU,')
_ADDED = re.compile(r'object_(?:class_)?property_add(_str|_bool)?\(\s*(?:oc|obj),\s*"([\w-]+)"(?:,\s*"(\w+)")?')
_HOST_ONLY = re.compile(r"max_x86_cpu_properties\[\] = \{(.*?)\};", re.DOTALL)


_MEMORY_REGION = re.compile(r'#define TYPE_MEMORY_REGION "([^"]+)"')


def inherited(tree: Path) -> dict[str, str]:
    """Return the properties of every CPU that target/i386 does not define, each with its type, as a tree has them."""
    found = dict(INHERITED)
    for header in (tree / "include" / place / "memory.h" for place in ("exec", "system")):
        if header.exists() and (named := _MEMORY_REGION.search(header.read_text(encoding="utf-8"))):
            found["memory"] = f"link<{named[1]}>"
    setters = tree / "hw" / "core" / "qdev-properties.c"
    if setters.exists() and '"legacy-%s"' not in setters.read_text(encoding="utf-8"):
        del found["legacy-memory"]
    return found


def properties(text: str, features: set[str], aliases: set[str], of_all: dict[str, str]) -> tuple[dict[str, Row], set[str]]:
    """Return the properties of max by name, and the names of those that every CPU has.

    `text` is target/i386/cpu.c without comments, and `of_all` what `inherited` gives.
    """
    found: dict[str, str] = dict.fromkeys((*features, *aliases), "bool") | of_all
    for kind, name, given in _ADDED.findall(text):
        found[name] = given or {"_str": "string", "_bool": "bool"}[kind]
    for kind, name in _DEFINED.findall(text):
        found[name] = _KINDS.get(kind, kind.lower())
    special = _HOST_ONLY.search(text)
    host_only = {name for _, name in _DEFINED.findall(special[1])} if special else set()
    return {name: {"name": name, "type": kind} for name, kind in found.items()}, set(found) - host_only


_FUNCTION = re.compile(r"^static void (\w+)\((?:MachineClass \*(\w+)|ObjectClass \*\w+, (?:const )?void \*\w+)\)\n\{(.*?)^\}", re.M | re.S)
_CALL = re.compile(r"(\w+_options)\(\w+\)")
_ASSIGNED = re.compile(
    r"\w+->(max_cpus|alias|default_kernel_irqchip_split|default_cpu_version|enforce_amd_1tb_hole|smp_props\.prefer_sockets) = ([^;]+)"
)
_COMPAT = re.compile(r"compat_props_add\(\w+->compat_props,\s*(\w+),")
_STATEMENT = re.compile(r"[^;{}]+")
_DEFINITION = re.compile(
    r"^DEFINE_(?P<kind>I440FX|Q35|PC)_MACHINE(?P<latest>_AS_LATEST)?(?:_BUGFIX)?"
    r'\((?:\w+, "(?P<name>[\w.-]+)",\s*\w+,\s*(?P<options>\w+)|(?P<numbers>\d[\d, ]*))\)',
    re.M,
)
_PARTS = {"I440FX": ("pc-i440fx", "pc_i440fx_machine", "pc"), "Q35": ("pc-q35", "pc_q35_machine", "q35")}
_CLASSES = ("pc_machine_class_init", "microvm_class_init")
NITRO = Path("hw", "nitro", "machine.c")
"""Where the machine type nitro is registered, of x86 and Arm, since 11.0."""


class MachineSource(NamedTuple):
    """A machine type as its options leave it: what query-machines tells, and what it sets.

    `state` are the fields of its class that were assigned, by name, and `compat` the lists of properties that it sets, in order.
    """

    name: str
    alias: str | None
    cpu_max: int
    state: dict[str, str]
    compat: tuple[str, ...]

    def answer(self) -> Row:
        """Give its row of query-machines."""
        return {"name": self.name, "cpu-max": self.cpu_max} | ({"alias": self.alias} if self.alias else {})


class Boards:
    """The machine types of hw/i386, and of other folders the enclave's."""

    def __init__(self, tree: Path, release: tuple[int, int]) -> None:
        places = [tree / "hw" / "i386" / name for name in ("pc.c", "pc_q35.c", "pc_piix.c", "isapc.c", "microvm.c")] + [tree / NITRO]
        self._release = release
        self._enclave = (tree / NITRO).exists()
        self._text = "\n".join(strip(path.read_text(encoding="utf-8")) for path in places if path.exists())
        self._bodies = {name: body for name, _, body in _FUNCTION.findall(self._text)}
        header = _header(tree)
        self._red_hat = 'prefix "-rhel"' in header  # there numbers stand for a release of theirs
        self._removes = "getenv" not in header and "MACHINE_VER_DELETION_MAJOR" in header and not self._red_hat

    def machines(self) -> Iterator[MachineSource]:
        """Yield what the program registers, Xen's own among them left out."""
        pc, microvm = (list(self._set(name)) for name in _CLASSES)
        for match in _DEFINITION.finditer(self._text):
            name, options, alias = match["name"], match["options"], None
            if match["numbers"]:
                numbers = re.findall(r"\d+", match["numbers"])
                prefix, symbol, short = _PARTS[match["kind"]]
                if self._red_hat:
                    prefix, symbol = f"{prefix}-rhel", symbol.replace("_machine", "_rhel_machine")
                name = f"{prefix}{'' if self._red_hat else '-'}{'.'.join(numbers)}"
                options = f"{symbol}_{'_'.join(numbers)}_options"
                alias = short if match["latest"] else None
                if self._red_hat and options not in self._bodies:
                    continue  # upstream's, switched off
                if self._removes and self._expired(int(numbers[0]), int(numbers[1])):
                    continue
            if name.startswith("xen"):
                continue
            yield _machine(name, [*pc, *self._set(options)], alias)
        yield _machine("microvm", [*microvm, ("default_kernel_irqchip_split", "true")], None)
        if self._enclave:
            yield _machine("nitro", list(self._set("nitro_machine_class_init")), None)

    def _set(self, function: str) -> Iterator[tuple[str, str]]:
        """Yield what a function and those that it calls set, in order."""
        for statement in _STATEMENT.findall(self._bodies[function]):
            if call := _CALL.search(statement):
                if call[1] in self._bodies:
                    yield from self._set(call[1])
            elif compat := _COMPAT.search(statement):
                yield "compat_props", compat[1]
            elif assigned := _ASSIGNED.search(statement):
                yield assigned[1], assigned[2].strip()

    def _expired(self, major: int, minor: int) -> bool:
        """Tell whether a machine type is so old that the release registers it no more (MACHINE_VER_SHOULD_DELETE): six years and more."""
        years = self._release[0] - major
        return years > 6 or (years == 6 and self._release[1] >= minor)


def _header(tree: Path) -> str:
    places = (tree / "include" / "hw" / "boards.h", tree / "include" / "hw" / "core" / "boards.h")
    return "\n".join(strip(path.read_text(encoding="utf-8")) for path in places if path.exists())


def _machine(name: str, given: list[tuple[str, str]], alias: str | None) -> MachineSource:
    state = dict(given)
    own = state.get("alias", "NULL")
    alias = alias or (None if own == "NULL" else own.strip('"'))
    compat = tuple(value for field, value in given if field == "compat_props")
    return MachineSource(name, alias, int(state["max_cpus"], 0), state, compat)
