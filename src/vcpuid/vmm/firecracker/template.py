"""CPU templates: the static ones that Firecracker brings, on which hosts it allows them, and what a template makes of a table.

From src/vmm/src/cpu_config/templates.rs, x86_64/custom_cpu_template.rs and x86_64/static_cpu_templates/mod.rs. The static templates are
data/firecracker.json; `vcpuid.formats.firecracker_template` reads custom ones.
"""

from __future__ import annotations

from typing import Any

from vcpuid import data
from vcpuid.cpuid import CpuidWord
from vcpuid.cpuid.registers import vendor_name
from vcpuid.errors import FirecrackerError, InputError
from vcpuid.formats.firecracker_template import Bitmap, CpuidModifier, Template
from vcpuid.releases import number
from vcpuid.vmm.firecracker import rules
from vcpuid.vmm.firecracker.silicon import Silicon
from vcpuid.vmm.patching import TableDraft

SKYLAKE, CASCADE_LAKE = 0x50654, 0x50657
"""Family, model and stepping, as leaf 1 tells them."""

_SIGNATURE = 0x0FFF0FFF
_C3_WARNING = (
    "On processors that do not enumerate FBSDP_NO, PSDP_NO and SBDR_SSDP_NO on IA32_ARCH_CAPABILITIES MSR, the guest kernel "
    "does not apply the mitigation against MMIO stale data vulnerability."
)


def static(name: str, release: str) -> Template:
    """Return a static template as a release has it; raises InputError for a name that is none."""
    return _template(_row(name, release))


def names() -> tuple[str, ...]:
    """Name the static templates."""
    return tuple(data.load("firecracker")["templates"])


def check_host(name: str, release: str, silicon: Silicon) -> list[str]:
    """Return what Firecracker logs when a static template is asked for on a host.

    Raises FirecrackerError, with Firecracker's message, where it does not allow the template there.
    """
    row = _row(name, release)
    if vendor_name(silicon.registers(0)) != row["vendor"]:
        raise FirecrackerError("CPU vendor mismatched between actual CPU and CPU template.")
    signature = silicon.registers(1).eax & _SIGNATURE
    if signature not in row.get("signatures", (signature,)) or signature < row.get("least", 0):
        raise FirecrackerError("The current CPU model is not permitted to apply the CPU template.")
    older = signature == SKYLAKE if "signatures" in row else signature < CASCADE_LAKE
    return [_C3_WARNING] if name == "C3" and older else []


def apply(draft: TableDraft, template: Template) -> None:
    """Change a table as a template says; raises FirecrackerError where it changes a sub-leaf that the table lacks."""
    for modifier in template.cpuid:
        if (modifier.leaf, modifier.subleaf) not in draft:
            place = f"Leaf: {modifier.leaf:x}, Subleaf: {modifier.subleaf:x}"
            raise FirecrackerError(f"Template changes a CPUID entry not supported by KVM: {place}")
        draft.insert(modifier.leaf, modifier.subleaf, modifier.flags)
        for register, (mask, value) in modifier.registers:
            word = CpuidWord(modifier.leaf, modifier.subleaf, register)
            draft.assign(word, mask & ~value, 0, rules.TEMPLATE)
            draft.assign(word, value, value, rules.TEMPLATE)


def _row(name: str, release: str) -> dict[str, Any]:
    rows = data.load("firecracker")["templates"].get(name)
    if rows is None:
        raise InputError(f"{name[:40]!r} is no static CPU template of Firecracker: {', '.join(names())} are")
    row: dict[str, Any] = next(row for row in reversed(rows) if number(row["since"]) <= number(release))
    return row


def _template(row: dict[str, Any]) -> Template:
    cpuid = (
        CpuidModifier(leaf, subleaf, flags, tuple((register, Bitmap(*bits)) for register, *bits in registers))
        for leaf, subleaf, flags, registers in row["cpuid"]
    )
    return Template(tuple(cpuid), tuple((msr, Bitmap(*bits)) for msr, *bits in row["msrs"]))
