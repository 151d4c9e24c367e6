"""-cpu arguments tried on one host, one kernel and one QEMU."""

from __future__ import annotations

from functools import cached_property

from vcpuid import kvm, qemu
from vcpuid.errors import KvmError, QemuError
from vcpuid.kvm.answers import kvm_says
from vcpuid.linux import cpuinfo
from vcpuid.path.pipeline import guest_snapshot, resolve
from vcpuid.qemu.catalog import Catalog, MachineType, Model, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.guest import make
from vcpuid.setup import Setup, Stack


class Attempt:
    """What becomes of a -cpu; `machine` is None where QEMU does not have the machine type."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self._kvm = setup, qemu.KvmHost(xcr0=kvm_says(setup).xcr0)
        self.catalog: Catalog = catalog(setup.vmm.tables)
        try:
            self.machine: MachineType | None = find_machine(self.catalog.release, setup.machine)
        except QemuError:
            self.machine = None

    def run(self, cpu: str) -> qemu.QemuResult | None:
        """Give QEMU's answer, None where it refuses."""
        return None if isinstance(told := self.tell(cpu), str) else told

    def tell(self, cpu: str) -> qemu.QemuResult | str:
        """Give QEMU's answer, or the message with which it refuses."""
        try:
            return make(cpu, self.setup, self._kvm)
        except QemuError as error:
            return error.message

    def clean(self, cpu: str) -> qemu.QemuResult | None:
        """Give QEMU's answer where it gives all that is asked without a warning, and KVM takes its table."""
        made = self.run(f"{cpu},enforce=on")
        if made is None or made.warnings or made.dropped:
            return None
        try:
            kvm.set_cpuid(made.tables[0], host=self.setup)
        except KvmError:
            return None
        return made

    def bugs(self, cpu: str) -> tuple[str, ...]:
        """Give the bugs that /proc/cpuinfo lists in the guest of a CPU that runs, under a Linux as the host's."""
        guest = guest_snapshot(resolve(cpu, host=self.setup))
        return cpuinfo(Setup.of(guest, Stack(kernel=self.setup.kernel.asked)), observed=False).bugs

    @cached_property
    def names(self) -> dict[str, str]:
        """The shortest name of each version of each model on this machine type, by the versioned one."""
        assert self.machine is not None
        found = {name: name for name in self.catalog.models}
        for alias in self.catalog.model_aliases:
            version = self.catalog.resolve_model(alias, self.machine)
            found[version] = min(found.get(version, version), alias, key=len)
        return found

    def model(self, name: str) -> Model | None:
        """Return the model behind a name, None for host, max and base, and for a name that is none."""
        assert self.machine is not None
        try:
            return self.catalog.models.get(self.catalog.resolve_model(name, self.machine))
        except QemuError:
            return None
