"""/dev/kvm through the standard library: what the running kernel's KVM answers, virtual machines and vCPUs.

Everything opened is closed by `close` or at the end of a `with`, a VM before its Kvm or after it. An ioctl that fails raises KvmError with
its errno; a /dev/kvm that is not there or not ours raises UnavailableError, as does an ioctl that finds no descriptor or memory left.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Self

from vcpuid.cpuid import CpuidTable, MsrTable
from vcpuid.errors import USED_UP, KvmError, UnavailableError
from vcpuid.live import kvm_structs as structs
from vcpuid.live.kvm_structs import Regs, Sregs

PATH = "/dev/kvm"
_API_VERSION = 12
_CAP_EXT_CPUID = 7
_ROOM = 256
_MOST = 1 << 14
_HELP = {
    errno.ENOENT: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.ENXIO: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.ENODEV: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.EACCES: "add yourself to the kvm group (sudo usermod -aG kvm $USER) and log in again",
    errno.EPERM: "this process or container may not open it",
}


class _Handle:
    """A descriptor of KVM, closed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _ioctl(self, request: int, argument: int | bytearray = 0) -> int:
        # A buffer must be mutable: fcntl.ioctl copies immutable ones, and refuses those over 1,024 bytes.
        try:
            return fcntl.ioctl(self._descriptor, request, argument)
        except OSError as error:
            cause = f"{structs.NAMES[request]}: {error.strerror}"
            if error.errno in USED_UP:
                raise UnavailableError(cause) from None
            raise KvmError(error.errno or 0, cause) from None

    def _fill(self, request: int, buffer: bytearray) -> bytearray:
        self._ioctl(request, buffer)
        return buffer

    def _table(self, request: int, room: int = _ROOM) -> CpuidTable:
        """Ask for a table, with more room each time that it does not fit."""
        while True:
            try:
                return structs.unpack_table(self._fill(request, structs.empty_table(room)))
            except KvmError as error:
                if error.errno != errno.E2BIG or room >= _MOST:
                    raise
                room = max(_ROOM, room * 4)


class Kvm(_Handle):
    """The device. Raises UnavailableError where it cannot be opened or is not KVM's on an x86 machine."""

    def __init__(self, path: str = PATH) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            remedy = _HELP.get(error.errno or 0)
            raise UnavailableError(f"{path}: {error.strerror}{f': {remedy}' if remedy else ''}") from None
        super().__init__(descriptor)
        try:
            lack = self._lack(path)
            if lack is not None:
                raise UnavailableError(lack)
        except BaseException:
            self.close()
            raise

    def _lack(self, path: str) -> str | None:
        """Say why the file is not KVM's device for x86, None where it is."""
        try:
            version = self._ioctl(structs.GET_API_VERSION)
        except KvmError as error:
            return f"{path} is not KVM's device: {os.strerror(error.errno)}"
        if version != _API_VERSION:
            return f"{path} speaks version {version} of KVM's interface, not {_API_VERSION}"
        if not self.check_extension(_CAP_EXT_CPUID):
            return f"{path} knows no CPUID: this is not an x86 processor"
        return None

    def supported_cpuid(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_CPUID: what a guest may have."""
        return self._table(structs.GET_SUPPORTED_CPUID)

    def emulated_cpuid(self) -> CpuidTable:
        """KVM_GET_EMULATED_CPUID: what a guest may have besides, at the price of exits."""
        return self._table(structs.GET_EMULATED_CPUID)

    def hyperv_cpuid(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_HV_CPUID, which the device answers since Linux 5.11; KvmError(ENOTTY or EINVAL) where it does not."""
        return self._table(structs.GET_SUPPORTED_HV_CPUID)

    def feature_msrs(self) -> MsrTable:
        """Read the feature MSRs (KVM_GET_MSR_FEATURE_INDEX_LIST), each by itself; those not readable are listed as refused."""
        values: dict[int, int] = {}
        refused = []
        for index in self._indices(structs.GET_MSR_FEATURE_INDEX_LIST):
            buffer = structs.pack_msr(index)
            try:
                read = self._ioctl(structs.GET_MSRS, buffer)
            except KvmError:
                read = 0
            if read == 1:
                values[index] = structs.unpack_msr(buffer)
            else:
                refused.append(index)
        return MsrTable(values, refused)

    def msr_indices(self) -> frozenset[int]:
        """KVM_GET_MSR_INDEX_LIST: the MSRs that a VMM is to save and to restore."""
        return frozenset(self._indices(structs.GET_MSR_INDEX_LIST))

    def machine_checks(self) -> int:
        """KVM_X86_GET_MCE_CAP_SUPPORTED: what a vCPU's MCG_CAP may have."""
        (supported,) = struct.unpack("<Q", self._fill(structs.X86_GET_MCE_CAP_SUPPORTED, bytearray(8)))
        return int(supported)

    def _indices(self, request: int) -> list[int]:
        """Ask for a list of MSRs, with more room each time that it does not fit."""
        room = _ROOM
        while room <= _MOST:
            buffer = structs.pack_index_list(room)
            try:
                return structs.unpack_index_list(self._fill(request, buffer))[1]
            except KvmError as error:
                if error.errno != errno.E2BIG:
                    raise
            room = max(room * 2, structs.unpack_index_list(buffer)[0])
        raise KvmError(errno.E2BIG, f"{structs.NAMES[request]}: more than {_MOST} MSRs")

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: 0 where KVM lacks a capability (KVM_CAP_ number), else what that capability tells."""
        return self._ioctl(structs.CHECK_EXTENSION, capability)

    def create_vm(self) -> Vm:
        """KVM_CREATE_VM."""
        run_size = self._ioctl(structs.GET_VCPU_MMAP_SIZE)
        return Vm(self._ioctl(structs.CREATE_VM), run_size)


class Vm(_Handle):
    """A virtual machine."""

    def __init__(self, descriptor: int, run_size: int) -> None:
        super().__init__(descriptor)
        self._run_size = run_size
        self._memory: list[mmap.mmap] = []

    def add_memory(self, memory: mmap.mmap, guest_address: int = 0, slot: int = 0) -> None:
        """Let the guest have an anonymous mapping as its memory; close the mapping after the VM."""
        import ctypes

        view = ctypes.c_char.from_buffer(memory)
        region = structs.pack_region(slot, guest_address, len(memory), ctypes.addressof(view))
        del view  # an exported buffer would keep the mapping from being closed
        self._ioctl(structs.SET_USER_MEMORY_REGION, region)
        self._memory.append(memory)

    def set_tss_address(self, address: int) -> None:
        """KVM_SET_TSS_ADDR: three pages that KVM on Intel may need for itself, out of the guest's memory."""
        self._ioctl(structs.SET_TSS_ADDR, address)

    def create_irqchip(self) -> None:
        """KVM_CREATE_IRQCHIP: KVM's own interrupt controllers, a local APIC for every vCPU that comes after."""
        self._ioctl(structs.CREATE_IRQCHIP)

    def create_vcpu(self, number: int = 0) -> Vcpu:
        """KVM_CREATE_VCPU; this process's guests may have AMX's tiles from then on, as QEMU's, where Linux lets them."""
        _permit_tiles()
        return Vcpu(self._ioctl(structs.CREATE_VCPU, number), self._run_size)


_PERMIT_TILES = (158, 0x1025, 18)  # arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, tile data), Linux 5.17 and newer


@cache
def _permit_tiles() -> None:
    """Ask for leave to give guests AMX's tiles, without which KVM refuses a table that shows them; after the first vCPU it is too late."""
    import ctypes

    ctypes.CDLL(None).syscall(*_PERMIT_TILES)


class Vcpu(_Handle):
    """A virtual processor and the page through which KVM tells why the guest left."""

    def __init__(self, descriptor: int, run_size: int) -> None:
        super().__init__(descriptor)
        self._given = 0
        try:
            self._run = mmap.mmap(descriptor, run_size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the descriptor and the page back."""
        if self._descriptor >= 0 and hasattr(self, "_run"):
            self._run.close()
        super().close()

    def set_cpuid(self, table: CpuidTable) -> None:
        """KVM_SET_CPUID2."""
        self._ioctl(structs.SET_CPUID2, structs.pack_table(table))
        self._given = len(table)

    def get_cpuid(self) -> CpuidTable:
        """KVM_GET_CPUID2: the table as the vCPU keeps it now.

        At first there is room for just as many entries as were set, because Linux 6.1 does not tell how many there are; KVMs that add some
        (kvm_pvm does) tell.
        """
        return self._table(structs.GET_CPUID2, self._given)

    def enable(self, capability: int, argument: int | None = 0) -> None:
        """KVM_ENABLE_CAP; with None, the argument is the address of room for KVM's answer."""
        import ctypes

        room = ctypes.create_string_buffer(8)
        self._ioctl(structs.ENABLE_CAP, structs.pack_capability(capability, ctypes.addressof(room) if argument is None else argument))

    def setup_machine_checks(self, capabilities: int) -> None:
        """KVM_X86_SETUP_MCE: MCG_CAP."""
        self._ioctl(structs.X86_SETUP_MCE, bytearray(struct.pack("<Q", capabilities)))

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        """KVM_SET_MSRS: return how many of them KVM took before it refused one."""
        return self._ioctl(structs.SET_MSRS, structs.pack_msrs(values))

    def get_regs(self) -> Regs:
        """KVM_GET_REGS."""
        return Regs.unpack(self._fill(structs.GET_REGS, bytearray(144)))

    def set_regs(self, regs: Regs) -> None:
        """KVM_SET_REGS."""
        self._ioctl(structs.SET_REGS, regs.pack())

    def get_sregs(self) -> Sregs:
        """KVM_GET_SREGS."""
        return Sregs.unpack(self._fill(structs.GET_SREGS, bytearray(312)))

    def set_sregs(self, sregs: Sregs) -> None:
        """KVM_SET_SREGS."""
        self._ioctl(structs.SET_SREGS, sregs.pack())

    def tsc_khz(self) -> int | None:
        """KVM_GET_TSC_KHZ: the guest's TSC frequency, None where KVM does not know it."""
        try:
            return self._ioctl(structs.GET_TSC_KHZ) or None
        except KvmError:
            return None

    def run(self, seconds: float = 1.0) -> int:
        """KVM_RUN until the guest leaves; returns the reason (KVM_EXIT_ number).

        Raises KvmError(ETIME) when it has not left after so many seconds: a thread then sends this one SIGURG, which only KVM_RUN lets
        through (KVM_SET_SIGNAL_MASK), so no handler of the program is touched. Other signals are handled and the guest goes on.
        """
        limit = time.monotonic() + seconds
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
        alarm = threading.Timer(seconds, signal.pthread_kill, (threading.get_ident(), signal.SIGURG))
        alarm.daemon = True
        try:
            mask = sum(1 << number - 1 for number in blocked - {signal.SIGURG})
            self._ioctl(structs.SET_SIGNAL_MASK, structs.pack_signal_mask(mask))
            alarm.start()
            while True:
                try:
                    self._ioctl(structs.RUN)
                    return self.exit_reason
                except KvmError as error:
                    if error.errno != errno.EINTR:
                        raise
                if time.monotonic() >= limit:
                    raise KvmError(errno.ETIME, f"KVM_RUN: the guest has not left after {seconds:g} s")
                signal.sigtimedwait({signal.SIGURG}, 0)
        finally:
            alarm.cancel()
            if alarm.ident is not None:
                alarm.join()
            signal.sigtimedwait({signal.SIGURG}, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    @property
    def exit_reason(self) -> int:
        """Why the guest left last (KVM_EXIT_ number)."""
        (reason,) = struct.unpack_from("<I", self._run, 8)
        return int(reason)

    @property
    def exit_port(self) -> int:
        """The port of a KVM_EXIT_IO."""
        (port,) = struct.unpack_from("<H", self._run, 34)
        return int(port)
