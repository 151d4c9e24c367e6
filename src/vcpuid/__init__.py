"""Which CPU does this x86 guest see, and why?

    host = vcpuid.read("kvm")                                    # this machine; or a snapshot file
    vcpuid.kvm.supported(host, kernel="6.12").table              # what its KVM supports
    vcpuid.qemu.guest_tables("EPYC-Milan", host=host).tables     # what QEMU hands to KVM_SET_CPUID2
    print(vcpuid.explain("avx2", cpu="EPYC-Milan", host=host).verdict)

`read` reads a host, `explain` tells a feature's fate on the whole path, `resolve` gives the path itself; each party has a package of its
own: `linux`, `kvm`, `qemu`, `libvirt`. Everything raised on purpose is a `VcpuidError`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; to import it would take time before the program can listen for signals
if TYPE_CHECKING:
    from vcpuid import cpuid, kvm, libvirt, linux, qemu
    from vcpuid.answers.explanation import Explanation
    from vcpuid.cpuid import Snapshot
    from vcpuid.diagnosis import Diagnosis, diagnose
    from vcpuid.errors import (
        InputError,
        KvmError,
        LibvirtError,
        NotToldError,
        QemuError,
        RefusedError,
        RemarkWarning,
        UnavailableError,
        VcpuidError,
    )
    from vcpuid.path.pipeline import Path, resolve
    from vcpuid.setup import Setup, Stack
    from vcpuid.sources import read

    __version__: str

__all__ = [
    "Diagnosis",
    "Explanation",
    "InputError",
    "KvmError",
    "LibvirtError",
    "NotToldError",
    "Path",
    "QemuError",
    "RefusedError",
    "RemarkWarning",
    "Setup",
    "Snapshot",
    "Stack",
    "UnavailableError",
    "VcpuidError",
    "cpuid",
    "diagnose",
    "explain",
    "kvm",
    "libvirt",
    "linux",
    "qemu",
    "read",
    "resolve",
]


_WHERE = {
    "Diagnosis": "vcpuid.diagnosis",
    "Explanation": "vcpuid.answers.explanation",
    "InputError": "vcpuid.errors",
    "KvmError": "vcpuid.errors",
    "LibvirtError": "vcpuid.errors",
    "NotToldError": "vcpuid.errors",
    "Path": "vcpuid.path.pipeline",
    "QemuError": "vcpuid.errors",
    "RefusedError": "vcpuid.errors",
    "RemarkWarning": "vcpuid.errors",
    "Setup": "vcpuid.setup",
    "Snapshot": "vcpuid.cpuid",
    "Stack": "vcpuid.setup",
    "UnavailableError": "vcpuid.errors",
    "VcpuidError": "vcpuid.errors",
    "diagnose": "vcpuid.diagnosis",
    "read": "vcpuid.sources",
    "resolve": "vcpuid.path.pipeline",
}


def __getattr__(name: str) -> object:
    """Import a name of the public face when it is first used: `vcpuid --help` needs none of them."""
    from importlib import import_module

    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in __all__:
        return import_module(f"vcpuid.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("vcpuid")
    raise AttributeError(f"module 'vcpuid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def explain(feature: str, cpu: str = "host", host: Snapshot | Setup | None = None, stack: Stack | None = None) -> Explanation:
    """Tell a feature's fate from the host's silicon to the guest.

    `feature` is any spelling of it, `cpu` QEMU's -cpu argument. Without a `host`, this machine's processor and KVM are read; without a
    `stack`, the host's own kernel and the newest QEMU that vcpuid has tables of are taken. A Setup as `host` holds both. Raises InputError
    for an unknown feature or a wrong host, QemuError or KvmError where QEMU or KVM would refuse that CPU, NotToldError where that hangs on
    what the host does not tell, UnavailableError where this
    machine has no x86 processor or no usable /dev/kvm.
    """
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.explain import explain as read_off
    from vcpuid.cpuid.names import find
    from vcpuid.sources import read

    wanted = find(feature)
    snapshot = read("kvm") if host is None else host
    return read_off(wanted, followed(cpu, host=snapshot, stack=stack))
