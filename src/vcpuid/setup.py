"""What is asked, settled once: the host, the software on it, its parameters. Every party below and every answer above reads this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Generic, TypeVar

from vcpuid import params as parameters
from vcpuid import releases
from vcpuid.cpuid import MsrTable, Snapshot, by_name, long_mode, vendors, whole
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.long_mode import in_64_bit_mode, of_32_bit_program
from vcpuid.errors import InputError, warn_caller
from vcpuid.params import Given, Params, Value
from vcpuid.releases import Release

MODULES = ("kvm", "kvm_intel", "kvm_amd")
"""Linux's own modules of KVM."""

_VENDOR_MODULES = {vendors.INTEL: "kvm_intel"} | dict.fromkeys(vendors.AMD_AND_HYGON, "kvm_amd")


@dataclass(frozen=True, slots=True)
class Stack:
    """The software between the silicon and the guest, as somebody asks for it; None leaves it to the host, or to the newest tables.

    `kernel` and `qemu` are releases as the programs print them ("6.18.44-fc", "7.2.22"); the newest tables that are not newer stand for
    them. `machine` is QEMU's -M, `smp` its -smp, `globals` its -global, each as "DRIVER.PROPERTY=VALUE". `params` are parameters that
    differ from the host snapshot's and the kernel's defaults (`vcpuid.params`). `what_if` says that the host did not run with them: what
    its KVM and Linux answered then tells nothing of them. Raises TypeError for a release that is a number, as which 10.1 and 10.10 are one.
    """

    kernel: str | None = None
    qemu: str | None = None
    machine: str = "q35"
    smp: str = "1"
    params: Given = field(default_factory=FrozenMap)
    what_if: bool = False
    globals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.params, FrozenMap):
            object.__setattr__(self, "params", FrozenMap(self.params))
        for release in (self.kernel, self.qemu):
            if not isinstance(release, str | None):
                raise TypeError(f"a release is a text, in quotes: '{release}'")


@dataclass(frozen=True)
class Setup:
    """A host and the software on it, settled: what holds for them, under which releases, with which parameters.

    `host` has only the observations that hold for `kernel` and `params`, and tells what 64-bit programs see. `vmm` is the release of the
    VMM that makes the guest's table. `assumed` names what neither the host told nor anybody asked for: "kernel", "qemu". `ran` is the host
    as it ran, where it is asked what would be otherwise: what its kernel and its KVM answered then tells of the hardware still.
    `kvm_loaded` says that the host tells that its KVM's module was loaded. `remarks` are sentences on what stands for what was asked, and
    on what has no effect. It can be pickled; `made` by `Setup.of`.
    """

    host: Snapshot
    kernel: Release
    vmm: Release
    machine: str = "q35"
    smp: str = "1"
    params: Params = parameters.NONE
    remarks: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    assumed: frozenset[str] = frozenset()
    ran: Setup | None = None
    kvm_loaded: bool = False

    @classmethod
    def of(cls, host: Snapshot, stack: Stack | None = None, *, vmm: Release | None = None) -> Setup:
        """Settle a host and a stack. `vmm` is the VMM's release where that is not QEMU.

        The kernel and QEMU are the ones asked for, else the snapshot's own, else the newest with tables.
        Raises InputError for a wrong release or parameter, TypeError for what is no Snapshot.
        """
        if not isinstance(host, Snapshot):
            raise TypeError(f"a host is a Snapshot, as vcpuid.read(path) returns it, and not of the type {type(host).__name__}")
        stack = stack or _DEFAULT
        asked = own_kernel(host) if stack.kernel is None else stack.kernel
        kernel = releases.linux(asked)
        programs = {"kernel": asked, "qemu": vmm or stack.qemu or host.qemu}
        vmm = releases.qemu(host.qemu if stack.qemu is None else stack.qemu) if vmm is None else vmm
        params = Params.of(stack.params)
        named = by_name.with_named_bits(host, releases.KERNELS if asked is None else (kernel.tables,))
        told = in_64_bit_mode(whole.only_whole(named))
        kept, more = _settle(told, kernel, stack)
        more = (*by_name.remarks(host), *whole.remarks(host), *more)
        ran = None
        if kept is not told:
            settled_by = parameters.NONE if stack.what_if else params
            ran = cls(told, releases.linux(own_kernel(told) or asked), vmm, stack.machine, stack.smp, settled_by)
        if of_32_bit_program(host):
            more = (long_mode.REMARK, *more)
        assumed = frozenset(program for program, release in programs.items() if release is None)
        if asked is None:
            more = (_assuming(kernel), *more)
        remarks = (*(release.remark for release in (kernel, vmm) if release.remark), *more)
        imported = "-" in vmm.tables  # its own machine types are known
        if vmm.program == "QEMU" and not imported and (distributed := releases.distributed(stack.machine)):
            remarks = (*remarks, distributed)
        if params is not parameters.NONE:
            remarks = (*remarks, *_without_effect(kept, params))
        return cls(kept, kernel, vmm, stack.machine, stack.smp, params, remarks, stack.globals, assumed, ran, _kvm_loaded(host))

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def linux(self) -> str:
        """The kernel as a line about an answer names it: one that nobody named is called assumed."""
        return f"Linux {self.kernel}{' (assumed)' if 'kernel' in self.assumed else ''}"

    @property
    def as_it_ran(self) -> Setup:
        """The host with what its own kernel and its own KVM answered, whichever kernel and parameters are asked for."""
        return self.ran or self

    @property
    def spoken_vmm(self) -> str:
        """The VMM's release; of a QEMU that nobody named, that it is the newest known."""
        return f"{self.vmm} ({NEWEST})" if "qemu" in self.assumed else str(self.vmm)

    @cached_property
    def below(self) -> Below:
        """What Linux and KVM look at of it, as a key for what is remembered of them."""
        return Below(self)

    def as_dict(self, *, vmm: bool = True) -> dict[str, object]:
        """For JSON: the software, with or without the VMM and what is said to it; of a VMM that is not QEMU there is no machine type."""
        of_qemu = self.vmm.program == "QEMU"
        made = {"vmm": self.vmm.as_dict(), "machine": self.machine if of_qemu else None, "smp": self.smp} if vmm else {}
        more = {"globals": list(self.globals)} if vmm and self.globals else {}
        return {"kernel": self.kernel.as_dict(), **made, "params": {**self.params.kvm, **self.params.linux}, **more}

    def with_param(self, name: str, value: Value | None) -> Setup:
        """Return the same setup with one parameter otherwise, None: not given. Raises InputError for one that is none."""
        given = {other: told for other, told in {**self.params.kvm, **self.params.linux}.items() if other != name}
        return replace(self, params=Params.of(given if value is None else {**given, name: value}))

    def with_host(self, host: Snapshot) -> Setup:
        """Return the same setup around another snapshot of which all observations hold, whose CPUID and MSRs it had as it ran, too."""
        ran = self.ran
        if ran is not None:
            ran = replace(ran, host=replace(ran.host, raw=host.raw, hardware_msrs=host.hardware_msrs))
        return replace(self, host=host, ran=ran)


_DEFAULT = Stack()
NEWEST = "the newest known"
"""What is said of a release that nobody told."""


class Below:
    """A setup as far as Linux and KVM look at it: equal where the fingerprints, the kernel's tables and the parameters are.

    So must be those with which the host ran.
    """

    __slots__ = ("_hash", "_key", "setup")

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._key = (setup.host.fingerprint, setup.kernel.tables, setup.params, None if setup.ran is None else setup.ran.below)
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Below) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Below], tuple[Setup]]:
        return Below, (self.setup,)


T = TypeVar("T")

KEPT = 640
"""Answers that are kept of a function: of all hosts that a part of a dump could be, some 500 (`vcpuid.told.completions`), about whom one
question follows the other. They take some 30 KB a host."""

SHARED = 256
"""Answers that are kept where these hosts share most of them (`vcpuid.kvm.alike`): of some 500 hosts there are 150 to 250."""


class Remembered(Generic[T]):
    """A function of a setup that looks at its host, kernel and parameters alone; its answers for the last setups are kept.

    A decorator: hosts that rules cannot tell apart share an answer, whichever object or process they come from.
    """

    def __init__(self, function: Callable[[Setup], T]) -> None:
        self.__doc__, self.__name__, self.__wrapped__ = function.__doc__, function.__name__, function
        self._kept = lru_cache(maxsize=KEPT)(lambda below: function(below.setup))
        self.cache_clear = self._kept.cache_clear

    def __call__(self, setup: Setup) -> T:
        """Return the answer, worked out where none is kept."""
        return self._kept(setup.below)


def settled(
    host: Snapshot | Setup,
    *,
    kernel: str | Release | None = None,
    qemu: str | Release | None = None,
    machine: str = "q35",
    smp: str = "1",
    params: Given | None = None,
    observed: bool = False,
) -> Setup:
    """Settle the arguments of a public function: a Setup is taken as it is; of a snapshot, remarks become a RemarkWarning each.

    `observed` tells that the answer rests on what the host's own KVM said, where it was asked. Raises InputError as `Setup.of` does,
    TypeError where there is a Setup and another argument besides.
    """
    stack = Stack(as_asked(kernel), as_asked(qemu), machine, smp, FrozenMap() if params is None else params)
    if isinstance(host, Setup):
        return joined(host, None if stack == _DEFAULT else stack)
    made = Setup.of(host, stack)
    for remark in (*made.remarks, *(overruled(made) if observed else ())):
        if remark != _assuming(made.kernel):
            warn_caller(remark)
    return made


def _assuming(kernel: Release) -> str:
    """Say that the newest kernel stands for one that nobody named; of a Python function's argument that is the default, and no warning."""
    return f"the kernel is not told: it is taken to be Linux {kernel}, the newest with tables"


def joined(host: Snapshot | Setup, stack: Stack | None, release: Callable[[str | None], Release] = releases.qemu) -> Setup:
    """Settle a host and a stack, or take the Setup that holds both; `release` chooses the VMM's.

    Raises InputError as `Setup.of` does, TypeError for a Setup and a stack besides.
    """
    if not isinstance(host, Setup):
        return Setup.of(host, stack, vmm=release(stack.qemu if stack else None))
    if stack is not None:
        raise TypeError("a Setup holds its kernel, its VMM and its parameters; give it alone, or a Snapshot with what is to differ")
    return host


def as_asked(release: str | Release | None) -> str | None:
    """Return a release as somebody asks for it."""
    return release.asked if isinstance(release, Release) else release


def _kvm_loaded(host: Snapshot) -> bool:
    """Whether a host tells that its KVM is loaded: it answered, if only a part of that is told, or its vendor's module has parameters."""
    answered = any(table is not None for table in (host.supported, host.emulated, host.hyperv))
    return answered or any(name.partition(".")[0] in _VENDOR_MODULES.values() for name in host.params)


def own_kernel(host: Snapshot) -> str | None:
    """Return the kernel that a snapshot names; None where it names none, or calls it by something that is no release."""
    if not host.kernel:
        return None
    try:
        releases.number(host.kernel)
    except InputError:
        return None
    return host.kernel


def _settle(host: Snapshot, kernel: Release, stack: Stack) -> tuple[Snapshot, tuple[str, ...]]:
    """Keep of a host's observations those that hold: none of its kernel's, where that is another one or a what-if.

    A snapshot without RAW lines is left as it is, since there is nothing to model its KVM from; so is one that tells no kernel.
    """
    own = own_kernel(host)
    other = own is not None and (releases.linux(own).tables != kernel.tables or _between(own, kernel))
    if not (other or stack.what_if):
        if own is not None and host.supported is not None and releases.series(own) != releases.series(kernel.asked):
            return host, (f"the host ran Linux {own}: what its KVM answered there stands for Linux {kernel}, whose tables are the same",)
        return host, ()
    if not host.raw:
        if host.supported is None:
            return host, ()
        return host, (f"the snapshot does not tell its CPUID (RAW lines): what its own KVM answered stands for Linux {kernel}'s",)
    lost = frozenset(host.msrs) if other or _of_modules(stack) else _BY_BOOT | {index for _, index in parameters.msrs_in(stack.params)}
    return _unobserved(host, lost), ()


def _between(own: str, kernel: Release) -> bool:
    """Whether a kernel is another one than a host's own, and lies between two with tables: then it is not known to be as the older one."""
    return releases.following(kernel) is not None and releases.number(own) != releases.number(kernel.asked)


_BY_BOOT = frozenset({0x10A})
"""KVM's feature MSRs that depend on the command line of its kernel: IA32_ARCH_CAPABILITIES."""


def _of_modules(stack: Stack) -> bool:
    """Whether it gives a parameter of one of KVM's modules, or another fact about its host's KVM: any feature MSR may depend on that."""
    return bool(Params.of(stack.params).kvm)


@lru_cache(maxsize=64)
def _unobserved(host: Snapshot, lost: frozenset[int]) -> Snapshot:
    """What is left of a host that runs otherwise: no answer of its kernel, and no KVM that is not Linux's own.

    `lost` are those of its KVM's feature MSRs that may be others.
    """
    msrs = MsrTable({index: value for index, value in host.msrs.items() if index not in lost})
    params = FrozenMap((name, value) for name, value in host.params.items() if name.partition(".")[0] in MODULES)
    nothing: FrozenMap[str, str] = FrozenMap()
    return replace(host, supported=None, emulated=None, hyperv=None, msrs=msrs, kept=None, set_result=None, cpuinfo=nothing, params=params)


def _without_effect(host: Snapshot, params: Params) -> Iterator[str]:
    """Say which parameters change no answer on this host, and why."""
    for name in params.kvm:
        if _others(host, name):
            module = _VENDOR_MODULES[host.vendor]
            yield f"the parameter {name} has no effect: this host's processor is {host.vendor}'s, and its module is {module}"


def _others(host: Snapshot, name: str) -> bool:
    """Whether a parameter is of a vendor module that does not run on this host's processor."""
    module, owners = _VENDOR_MODULES.get(host.vendor), parameters.modules_of(name)
    return module is not None and bool(owners) and not {module, "kvm"} & set(owners)


def overruled(setup: Setup) -> tuple[str, ...]:
    """Say which parameters stand for nothing in an answer that rests on what the host's own KVM said: one sentence, or none.

    They are the modules' that it did not run with, and the hardware's MSRs of which it told its own; they hold for all that is modelled.
    """
    if setup.host.supported is None or setup.params is parameters.NONE:
        return ()
    names = [name for name in setup.params.kvm if parameters.modules_of(name) and not _ran_with(setup, name)]
    names = [name for name in names if not _others(setup.host, name)]
    names += [name for name, index in parameters.msrs_in(setup.params.linux) if index in setup.host.msrs]
    if not names:
        return ()
    these = "them" if len(names) > 1 else "it"
    said = f"{', '.join(names)}: this host's KVM was asked as it ran, and what it answered holds"
    return (f"{said}; with --what-if, in Python Stack(what_if=True), KVM is modelled with {these} instead",)


def _ran_with(setup: Setup, name: str) -> bool:
    short, wanted = name.rpartition(".")[2], parameters.read(name, setup.params.kvm[name])
    told = (setup.host.params.get(f"{module}.{short}") for module in parameters.modules_of(name))
    return any(value is not None and parameters.read(name, value) == wanted for value in told)
