"""One question to a libvirt on a host, as its API takes it: the answer, or libvirt's refusal."""

from __future__ import annotations

import warnings
from functools import lru_cache

from vcpuid import releases
from vcpuid.cpuid.registers import Snapshot
from vcpuid.errors import RemarkWarning
from vcpuid.libvirt.daemon import Answer, Libvirt
from vcpuid.libvirt.request import Request
from vcpuid.qemu import KvmHost
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled


def ask(
    request: Request,
    *,
    host: Snapshot | Setup,
    libvirt: str | Release | None = None,
    qemu: str | Release | None = None,
    machine: str = "q35",
    kvm: KvmHost | None = None,
) -> Answer:
    """Answer a request as a libvirt with its QEMU on that host does.

    `request` has a call's name as `do` and what it is given: `cpu` (XML of a <cpu>), `cpus` (several), `flags` (the API's number), `virt`
    ("qemu": TCG), `vcpus`, `features` and `clock` (XML inside the domain's <features>, its <clock>), or in place of these `domain`, the XML
    of a whole domain. `host` is a snapshot, or a Setup, which holds QEMU's release and the machine type as well; `libvirt` and `qemu` are
    releases (the newest), `kvm` what else libvirt and QEMU ask of KVM. The answer is what that call returns: `cpu` as XML on one line,
    `-cpu`, `result`. Another release's tables are told by a RemarkWarning. Raises LibvirtError where libvirt refuses, or the QEMU that it
    starts; InputError for what is no request or no XML.
    """
    release = releases.libvirt(libvirt)
    if release.remark is not None and release is not libvirt:
        warnings.warn(release.remark, RemarkWarning, stacklevel=2)
    setup = settled(host, qemu=qemu, machine=machine, observed=True)
    return connect(setup, release.tables, kvm).answer(request)


def connect(setup: Setup, release: str, kvm: KvmHost | None = None) -> Libvirt:
    """Return the libvirt of a host; the last ones are kept, with all that they found out."""
    return _kept(_Kept(setup, release, kvm))


class _Kept:
    """A setup as far as a libvirt looks at it."""

    __slots__ = ("_key", "made_of")

    def __init__(self, setup: Setup, release: str, kvm: KvmHost | None = None) -> None:
        self.made_of = setup, release, kvm
        self._key = (setup.below, setup.vmm.tables, setup.machine, release, kvm)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=64)
def _kept(key: _Kept) -> Libvirt:
    return Libvirt(*key.made_of)
