"""What is said to help is true of this host and this QEMU: names that QEMU takes, versions that there are, switches that may be off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.captures import host, stack
from vcpuid import Stack, resolve
from vcpuid.answers.explain import explain
from vcpuid.cpuid import Bit, CpuidTable, Snapshot, bits
from vcpuid.cpuid.names import find
from vcpuid.qemu.catalog import catalog

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-rnd06@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
ELSEWHERE = "run the guest on a processor that has it, or choose a CPU without it"


def remedy(
    feature: str, cpu: str, name: str = SKYLAKE, qemu: str = "10.0", edit: Callable[[Snapshot], Snapshot] = lambda same: same
) -> str | None:
    snapshot = edit(host(name))
    return explain(find(feature), resolve(cpu, host=snapshot, stack=stack(name, qemu=qemu))).remedy


def without(*gone: Bit) -> Callable[[Snapshot], Snapshot]:
    """A host that lacks bits, as its KVM does, and is no guest itself; what its Linux said is worked out anew."""

    def edit(snapshot: Snapshot) -> Snapshot:
        def bare(table: CpuidTable) -> CpuidTable:
            entries = list(table)
            for bit in (*gone, bits.HYPERVISOR):
                word = bit.word
                entries = [
                    e._replace(**{word.register: getattr(e, word.register) & ~bit.mask}) if e[:2] == (word.function, word.index) else e
                    for e in entries
                ]
            return CpuidTable(entries)

        return replace(snapshot, raw=bare(snapshot.raw), supported=bare(snapshot.supported or CpuidTable()), cpuinfo={})

    return edit


def test_a_model_of_one_version_has_no_newer_one() -> None:
    assert remedy("sse4_2", "kvm64") == "name it with +sse4.2, or take -cpu host"
    assert remedy("vmx-ept", "Skylake-Server-v4") == "name it with +vmx, or take -cpu host"


def test_the_version_that_has_it_is_named() -> None:
    told = remedy("arch-capabilities", "Icelake-Server-v1", SAPPHIRE)
    assert told == "name it with +arch-capabilities, or choose Icelake-Server-v3, or take -cpu host"
    assert remedy("stibp", "EPYC-v1", MILAN) is None, "it is Intel's bit"


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_each_version_that_is_named_has_the_feature(release: str) -> None:
    for base in ("Haswell", "EPYC-Rome", "Cascadelake-Server", "SapphireRapids"):
        path = resolve(f"{base}-v1", host=host(SAPPHIRE), stack=stack(SAPPHIRE, qemu=release))
        for name in ("arch-capabilities", "spec-ctrl", "xsaves", "ibrs-all", "wbnoinvd"):
            told = explain(find(name), path).remedy or ""
            if "choose " in told and told.startswith("name it"):
                version = told.partition("choose ")[2].partition(",")[0]
                flag = catalog(release).flags[name]
                assert catalog(release).models[version].features[flag.word] & flag.mask


def test_where_no_cpu_gives_it_none_is_advised() -> None:
    assert remedy("est", "Haswell") is None


def test_what_has_to_be_asked_for_is_spelled_as_qemu_does() -> None:
    assert remedy("invtsc", "host") == "set migratable=off, or name the feature with +invtsc"


def test_monitor_is_qemu_s_to_give() -> None:
    assert (remedy("monitor", "host") or "").startswith("use -overcommit cpu-pm=on, which gives it")


@pytest.mark.parametrize(
    ("feature", "bit", "name", "setting"),
    [
        ("aes", bits.AES, SKYLAKE, "AES-NI"),
        ("vmx", bits.VMX, SKYLAKE, "VT-x"),
        ("svm", bits.SVM, MILAN, "SVM mode"),
        ("nx", bits.NX, MILAN, "NX"),
        ("nx", bits.NX, SKYLAKE, "NX"),
        ("monitor", bits.MWAIT, SKYLAKE, "MONITOR"),
        ("erms", bits.ERMS, MILAN, "REP MOVSB"),
        ("fsrm", bits.FSRM, MILAN, "REP MOVSB"),
    ],
)
def test_a_switch_of_the_firmware_is_named(feature: str, bit: Bit, name: str, setting: str) -> None:
    told = remedy(feature, "host", name, edit=without(bit))
    assert told is not None
    assert told.startswith("look at the firmware's setting for ")
    assert setting in told
    assert told.endswith(f", where it may be off; else {ELSEWHERE}")


def test_a_processor_that_never_had_it_has_no_switch() -> None:
    assert remedy("aes", "host", "kvm-intel.core2_penryn_t9600@6.12") == ELSEWHERE
    assert remedy("vmx", "host", MILAN) == ELSEWHERE
    assert remedy("fsrm", "host", SKYLAKE) == ELSEWHERE


def test_of_a_host_that_is_a_guest_the_hypervisor_is_named() -> None:
    def guest(snapshot: Snapshot) -> Snapshot:
        bare = without(bits.VMX)(snapshot)
        raw = CpuidTable(e._replace(ecx=e.ecx | bits.HYPERVISOR.mask) if e.function == 1 else e for e in bare.raw)
        return replace(bare, raw=raw)

    assert (remedy("vmx", "host", SKYLAKE, edit=guest) or "").startswith("look at the hypervisor under this host, where it may be off")


def test_tsx_that_the_host_s_kernel_turned_off_is_turned_on_there() -> None:
    def control(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, msrs=type(snapshot.msrs)({**snapshot.msrs, 0x10A: bits.ARCH_CAP_TSX_CTRL_MSR.mask}))

    assert "boots with tsx=on" in (remedy("rtm", "Haswell", edit=control) or "")
    assert remedy("rtm", "Haswell") == ELSEWHERE


def test_a_flag_that_linux_does_not_show_may_be_locked_by_the_firmware() -> None:
    def locked(snapshot: Snapshot) -> Snapshot:
        flags = " ".join(flag for flag in snapshot.cpuinfo["flags"].split() if flag != "vmx")
        return replace(snapshot, cpuinfo={**snapshot.cpuinfo, "flags": flags})

    told = explain(find("vmx"), resolve("host", host=locked(host(SKYLAKE)), stack=Stack(kernel="6.12")))
    assert told.stages[1].disagrees
    assert told.remedy == "turn it on in the firmware's setting for Intel's virtualization, VT-x (MSR 3AH)"


def test_a_promise_of_immunity_is_the_host_s_to_make() -> None:
    told = remedy("mds-no", "Cascadelake-Server-noTSX", SAPPHIRE)
    assert told == "use a host whose processor, microcode and kernel promise it, or leave it out"


def test_an_enlightenment_is_asked_for_with_what_it_needs() -> None:
    path = resolve("host", host=host(SAPPHIRE), stack=stack(SAPPHIRE, qemu="10.0"))
    told = explain(find("hv-time"), path)
    assert told.verdict == "The guest does not see hv-time: -cpu does not ask for it."
    assert [(one.party, one.rule.id) for one in told.chain] == [("qemu", "silicon.hyper-v.unasked")]
    assert told.remedy == "add hv-time to -cpu"
    asked = explain(find("hv-stimer"), path).remedy
    assert asked == "add hv-vpindex,hv-synic,hv-time,hv-stimer to -cpu"
    seen = resolve(f"host,{asked.split()[1]}", host=host(SAPPHIRE), stack=stack(SAPPHIRE, qemu="10.0"))
    assert explain(find("hv-stimer"), seen).visible
    assert remedy("hv-xmm-input", "host", SAPPHIRE, qemu="7.0") == "use a QEMU that has hv-xmm-input: 7.0 does not"


def test_an_enlightenment_that_kvm_lacks_is_not_asked_for() -> None:
    told = explain(find("hv-evmcs"), resolve("host", host=host(MILAN), stack=stack(MILAN, qemu="10.0")))
    assert [(one.party, one.rule.id) for one in told.chain] == [("kvm", "silicon.hyper-v.not-offered")]
    assert told.remedy is not None
    assert "-cpu" not in told.remedy
