"""guest_tables: what it takes, what it models, how it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import captures
from vcpuid import qemu
from vcpuid.cpuid.registers import CpuidTable, Snapshot
from vcpuid.errors import InputError, QemuError
from vcpuid.qemu import KvmHost, guest_tables
from vcpuid.reasons import Action


def host(name: str = "kvm-intel.corei7_skylake_x@6.12") -> Snapshot:
    return captures.host(name)


def test_a_table_a_vcpu() -> None:
    result = guest_tables("host", host=host(), smp="6,sockets=2,cores=3")
    assert [table.registers(1).ebx >> 24 for table in result.tables] == [0, 1, 2, 4, 5, 6]
    assert result.state.machine == "pc-q35-11.1"


def test_what_kvm_supports_is_modelled_where_the_snapshot_does_not_tell() -> None:
    observed = guest_tables("max", host=host())
    modelled = guest_tables("max", host=replace(host(), supported=None, emulated=None), kernel="6.12")
    assert modelled.tables[0].registers(7).ebx == observed.tables[0].registers(7).ebx
    assert modelled.supported.get(7) is not None


def test_what_kvm_supports_stands_for_silicon_that_the_snapshot_does_not_tell() -> None:
    table = guest_tables("Skylake-Server", host=replace(host(), raw=CpuidTable())).tables[0]
    assert table.registers(0) == guest_tables("Skylake-Server", host=host()).tables[0].registers(0)
    assert table.registers(0xD, 2) == guest_tables("Skylake-Server", host=host()).tables[0].registers(0xD, 2)


def test_hyperv_is_modelled_where_the_snapshot_does_not_tell() -> None:
    without = replace(host(), hyperv=None)
    assert guest_tables("host,hv-time", host=without, kernel="6.12").tables[0].registers(0x40000003).eax == 0x222
    assert guest_tables("host,hv-passthrough", host=without).tables[0] == guest_tables("host,hv-passthrough", host=host()).tables[0]
    ignored = guest_tables("host,hv-time", host=replace(without, hyperv=CpuidTable()))
    assert ignored.tables[0].get(0x40000003) is None


def test_warnings_come_in_qemus_order_once_a_vcpu() -> None:
    result = guest_tables("host,+sgx", host=host(), smp="3", kvm=KvmHost(recommended_vcpus=2))
    lacking = "host doesn't support requested feature: CPUID[eax=07h,ecx=00h].EBX.sgx [bit 2]"
    assert list(result.warnings) == [
        "Number of SMP cpus requested (3) exceeds the recommended cpus supported by KVM (2)",
        "Number of hotpluggable cpus requested (3) exceeds the recommended cpus supported by KVM (2)",
        *[lacking] * 3,
    ]


def test_a_refusal_carries_the_warnings_before_it() -> None:
    with pytest.raises(QemuError) as refusal:
        guest_tables("host,+sgx,lmce=on", host=host(), smp="2", kvm=KvmHost(lmce=False))
    assert refusal.value.message.splitlines() == [
        "kvm: LMCE not supported",
        "kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Operation not supported",
    ]
    assert refusal.value.warnings == ("host doesn't support requested feature: CPUID[eax=07h,ecx=00h].EBX.sgx [bit 2]",)


@pytest.mark.parametrize(("khz", "scaling", "refused"), [(2_600_100, False, False), (2_610_000, False, True), (2_610_000, True, False)])
def test_a_tsc_frequency_needs_scaling_or_to_be_close(khz: int, scaling: bool, refused: bool) -> None:
    kvm = KvmHost(tsc_khz=2_600_000, tsc_scaling=scaling)
    if refused:
        with pytest.raises(QemuError) as refusal:
            guest_tables(f"host,tsc-frequency={khz}000", host=host(), kvm=kvm)
        assert refusal.value.warnings[-1].startswith(f"TSC frequency mismatch between VM ({khz} kHz) and host (2600000 kHz)")
    else:
        table = guest_tables(f"host,tsc-frequency={khz}000", host=host(), kvm=kvm).tables[0]
        assert table[-1][3:] == (khz, 1_000_000, 0, 0)
        assert table.registers(0x40000000).eax == 0x40000010


def test_hyperv_and_the_frequency_leaf_exclude_each_other() -> None:
    kvm = KvmHost(tsc_khz=2_600_000)
    table = guest_tables("host,+invtsc,migratable=off,hv-relaxed", host=host(), kvm=kvm).tables[0]
    assert table.get(0x40000010) is None
    assert table.registers(0x40000100).eax == 0x40000101


def test_unknown_names_are_refused_as_qemu_does() -> None:
    with pytest.raises(QemuError, match="unable to find CPU model 'Nonesuch'"):
        guest_tables("Nonesuch", host=host())
    with pytest.raises(QemuError, match="unsupported machine type"):
        guest_tables("host", host=host(), machine="nonesuch")
    with pytest.raises(InputError):
        guest_tables("host", host=host(), qemu="new")


def test_registers_worked_out_from_other_things_have_a_decision_of_their_own() -> None:
    computed = {d.rule.id for d in guest_tables("EPYC", host=host(), smp="2").decisions if d.action is Action.COMPUTED}
    assert {"qemu.leaf.cache", "qemu.leaf.topology", "qemu.leaf.model-id", "qemu.leaf.signature"} <= computed


def test_the_packages_face() -> None:
    assert {"guest_tables", "QemuResult", "KvmHost", "realize"} <= set(qemu.__all__)
