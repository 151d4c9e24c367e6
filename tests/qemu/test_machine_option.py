"""-machine's options; each refusal below was printed by QEMU 7.2.22, 10.0.13 or 11.1.3, and captures/qemu/machines.jsonl.gz has more."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.qemu_captures import qemu_host
from vcpuid import Setup, Stack, explain, qemu
from vcpuid.cpuid import bits
from vcpuid.errors import InputError, QemuError
from vcpuid.qemu import guest_tables
from vcpuid.qemu.catalog import machine
from vcpuid.qemu.machine_option import KEYVAL, split, up_to_smp
from vcpuid.qemu.smp import parse
from vcpuid.releases import QEMUS, number

MILAN, SKYLAKE = "tcg/EPYC-Milan-v2@7.3", "bochs/corei7_skylake_x@6.12"
FEATURES = 0x40000001


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("", None, {}),
        ("q35", "q35", {}),
        ("q35,", "q35", {}),
        ("type=q35", "q35", {}),
        ("q35,type=pc", "pc", {}),
        ("usb=on", None, {"usb": "on"}),
        ("q35,kernel_irqchip=split", "q35", {"kernel-irqchip": "split"}),
        ("q35,smp.cpus=2,x-oem-id=a,,b", "q35", {"smp.cpus": "2", "x-oem-id": "a,b"}),
        ("q35,usb=on,usb=off", "q35", {"usb": "off"}),
    ],
)
def test_the_argument_is_taken_apart_as_qemu_does(text: str, name: str | None, settings: dict[str, str]) -> None:
    assert split(text, (11, 1)) == (name, list(settings.items()))


@example({"id": ""})
@given(st.dictionaries(st.from_regex(r"[a-z]([a-z0-9]|-[a-z]){0,8}", fullmatch=True), st.text(max_size=12), max_size=5))
def test_whatever_is_put_together_is_taken_apart_again(settings: dict[str, str]) -> None:
    """Up to 6.0 an argument with an id is another machine's, at which nobody looks."""
    settings.pop("type", None)
    text = ",".join(["q35", *(f"{key}={value.replace(',', ',,')}" for key, value in settings.items())])
    for release in ((5, 2), (11, 1)):
        expected = (None, []) if release < KEYVAL and "id" in settings else ("q35", list(settings.items()))
        assert split(text, release) == expected


@given(
    st.lists(
        st.sampled_from(["q35", ",", "=", ".", "smp", "smp-cache", "usb", "0", "1", "00", "cache", "topology", "l3", "core", "_", "on"])
    )
)
def test_any_text_is_a_machine_or_a_refusal(parts: list[str]) -> None:
    text = "".join(parts)
    for release in ("5.2", "6.0", "11.1"):
        with suppress(QemuError, InputError):
            machine(release, text)
            machine(release, up_to_smp(text, number(release)))


@pytest.mark.parametrize(
    ("text", "release", "message"),
    [
        ("q35,kernel-irqchip", "11.1", "-M q35,kernel-irqchip: Expected '=' after parameter 'kernel-irqchip'"),
        ("q35,foo=1,usb=maybe", "5.2", "Property 'pc-q35-5.2-machine.foo' not found"),
        ("q35,vmport=maybe,usb=maybe", "6.0", "Invalid parameter 'maybe'"),
        ("q35,dump_guest_core=on", "5.2", "Property 'pc-q35-5.2-machine.dump_guest_core' not found"),
        ("q35,smp.cpus=2", "6.0", "Property 'pc-q35-6.0-machine.smp.cpus' not found"),
        ("q35,id=x", "6.0", "-M q35,id=x: Invalid parameter 'id'"),
        ("q35,,usb=on", "6.0", "-M q35,,usb=on: unsupported machine type\nUse -machine help to list supported machines"),
        ("q35,,usb=on", "10.0", "-M q35,,usb=on: Invalid parameter ''"),
        ("q35,foo=1", "7.2", "Property 'pc-q35-7.2-machine.foo' not found"),
        ("pc,usb=maybe", "10.0", "Parameter 'usb' expects 'on' or 'off'"),
        ("microvm,pcie=maybe", "11.1", "Parameter 'pcie' does not accept value 'maybe'"),
        ("q35,boot=c", "11.1", "Invalid parameter type for 'boot', expected: object"),
        ("q35,smp-cache.0.cache=l3,smp-cache.0.topology=core", "7.2", "Property 'pc-q35-7.2-machine.smp-cache' not found"),
        ("q35,smp-cache.1.cache=l3", "10.0", "-M q35,smp-cache.1.cache=l3: Parameter 'smp-cache.0' missing"),
        ("nosuch,foo=1", "11.1", 'unsupported machine type: "nosuch"\nUse -machine help to list supported machines'),
        (
            "q35,kernel-irqchip=maybe",
            "11.1",
            "can't apply global kvm-accel.kernel-irqchip=maybe: Parameter 'kernel-irqchip' does not accept value 'maybe'",
        ),
    ],
)
def test_options_are_refused_in_qemus_words(text: str, release: str, message: str) -> None:
    with pytest.raises(QemuError) as caught:
        machine(release, text)
    assert caught.value.message == message


@pytest.mark.bounds
@pytest.mark.parametrize("text", ["q35" + ",a=1" * 30_000, "q35,smp-cache." + "9" * 5000 + ".cache=l3", "q35," + "a." * 30_000 + "b=1"])
def test_long_arguments_are_refused_at_once(text: str) -> None:
    with pytest.raises(QemuError):
        machine("11.1", text)


def test_of_several_mistakes_the_one_is_named_that_qemu_comes_to_first() -> None:
    with pytest.raises(QemuError, match=r"spcr"):
        machine("7.2", "q35,fd-bootchk=off,spcr=off")
    with pytest.raises(QemuError, match=r"^Invalid CPU topology"):
        parse("3,cores=2", "11.1", "q35,smm=9")
    with pytest.raises(QemuError, match="usb") as caught:
        parse("0", "7.2", "q35,usb=maybe")
    assert caught.value.warnings == ("Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero",)


@pytest.mark.parametrize("text", ["q35,accel=tcg", "q35,accel=xen:kvm", "q35,confidential-guest-support=sev0", "pc,sgx-epc.0.memdev=m"])
def test_what_would_change_the_cpuid_in_unknown_ways_is_said_not_to_be_modelled(text: str) -> None:
    with pytest.raises(InputError, match="modelled"):
        machine("11.1", text)


@pytest.mark.parametrize("release", QEMUS)
def test_other_options_change_nothing(release: str) -> None:
    assert machine(release, "q35,usb=on,graphics=off,accel=kvm:tcg,kvm-shadow-mem=0x1000,memory-backend=ram,append=a b") == machine(
        release, "q35"
    )


def test_interrupt_controllers_decide_what_the_guest_gets() -> None:
    host = qemu_host(MILAN)
    with_split, without = (guest_tables("EPYC", host=host, machine=f"q35,kernel-irqchip={where}") for where in ("split", "on"))
    changed = with_split.tables[0].registers(FEATURES).eax ^ without.tables[0].registers(FEATURES).eax
    assert changed == bits.KVM_FEATURE_MSI_EXT_DEST_ID.mask
    old = guest_tables("host", host=host, qemu="7.2", machine="q35,kernel-irqchip=off")
    assert not old.tables[0].registers(1).ecx & bits.X2APIC.mask
    assert [decision.rule.id for decision in old.decisions if decision.rule.id == "qemu.supported.no-irqchip"]


def test_a_path_takes_them_too() -> None:
    host = qemu_host(MILAN)
    told = explain("kvm-msi-ext-dest-id", cpu="EPYC", host=host, stack=Stack(machine="q35,kernel-irqchip=split"))
    assert told.visible
    assert not explain("kvm-msi-ext-dest-id", cpu="EPYC", host=host).visible


def test_smp_may_stand_among_them() -> None:
    host = qemu_host(SKYLAKE)
    assert len(guest_tables("host", host=host, machine="q35,smp.cpus=4,smp.threads=2").tables) == 4
    assert len(guest_tables("host", host=host, machine="q35,smp.cpus=4,smp.threads=2", smp="2").tables) == 2
    assert parse("8", "11.1", "q35,smp.threads=2")[0].cores == 4


@pytest.mark.long
def test_caches_are_shared_on_the_levels_that_are_set() -> None:
    text = "q35,smp-cache.0.cache=l2,smp-cache.0.topology=die,smp-cache.1.cache=l3,smp-cache.1.topology=socket"
    made = guest_tables("Haswell", host=qemu_host(SKYLAKE), machine=text, smp="8,dies=2,cores=2,threads=2")
    sharing = [(made.tables[0].registers(4, index).eax >> 14 & 0xFFF) + 1 for index in range(4)]
    assert sharing == [2, 2, 4, 8]


def test_isapc_takes_one_vcpu_and_nitro_none() -> None:
    host = qemu_host(MILAN)
    assert guest_tables("486", host=host, machine="isapc").tables
    assert guest_tables("EPYC", host=host, machine="isapc").warnings[0] == "cpu type EPYC-x86_64-cpu is deprecated for isapc machine"
    assert (
        guest_tables("EPYC", host=host, machine="isapc", qemu="10.0").warnings[:1]
        != guest_tables("EPYC", host=host, machine="isapc").warnings[:1]
    )
    with pytest.raises(QemuError, match=r"^Invalid SMP CPUs 2\. The max CPUs supported by machine 'isapc' is 1$"):
        guest_tables("486", host=host, machine="isapc", smp="2")
    for release in ("11.0", "11.1"):
        with pytest.raises(QemuError, match=r"^The 'nitro' machine requires -accel nitro$"):
            guest_tables("host", host=host, machine="nitro", qemu=release)
    with pytest.raises(QemuError, match=r'^unsupported machine type: "nitro"'):
        guest_tables("host", host=host, machine="nitro", qemu="10.2")


def test_a_machine_that_the_cpu_cannot_address_is_refused_and_more_bits_abort() -> None:
    host = qemu_host(MILAN)
    with pytest.raises(QemuError, match=r"^Address space limit 0x7ffffffff < 0x8ffffffff phys-bits too low \(35\)$") as caught:
        guest_tables("EPYC,phys-bits=35", host=host)
    assert caught.value.warnings[-1] == "Host physical bits (40) does not match phys-bits property (35)"
    for fits in ("pc", "microvm", "isapc"):
        assert guest_tables("EPYC,phys-bits=35", host=host, machine=fits).tables
    with pytest.raises(QemuError, match=r"Assertion `cpu->phys_bits <= 52' failed\.$"):
        guest_tables("EPYC,phys-bits=53", host=host)
    assert guest_tables("EPYC,phys-bits=53,fill-mtrr-mask=off", host=host).tables


def test_a_place_is_that_of_every_vcpu() -> None:
    host = qemu_host(MILAN)
    assert guest_tables("EPYC,core-id=0,node-id=0", host=host).tables
    with pytest.raises(QemuError, match=r"^property core-id: 0 doesn't match set apic-id: 0x1 \(core-id: 1\)$"):
        guest_tables("EPYC,core-id=0", host=host, smp="2")
    with pytest.raises(QemuError, match=r"^invalid node-id, must be 0$"):
        qemu.realize("EPYC,node-id=1", host)


def test_an_old_import_without_a_known_kind_still_has_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    from vcpuid.qemu.catalog import Catalog

    tables = Catalog("10.0")
    monkeypatch.setitem(tables._rows, "machines", {"pc-q35-rhel9": {**tables._rows["machines"]["pc-q35-9.2"], "alias": "q35"}})
    assert tables.machine("q35,usb=on").pci_hole64 == 1 << 35


@pytest.mark.parametrize(
    "text", ["x86_64-cpu.avx2=off", "driver=x86_64-cpu,property=avx2,value=off", "cpu.avx2=off", "EPYC-x86_64-cpu.avx2=off"]
)
def test_a_global_is_set_before_what_cpu_sets(text: str) -> None:
    host = qemu_host(MILAN)
    setup = Setup.of(host, Stack(globals=(text,)))
    avx2 = bits.AVX2.mask
    assert not qemu.realize("EPYC", setup).features["FEAT_7_0_EBX"] & avx2
    assert qemu.realize("EPYC,avx2=on", setup).features["FEAT_7_0_EBX"] & avx2
    assert setup.as_dict()["globals"] == [text]


def test_a_global_of_another_cpu_or_device_is_passed_over() -> None:
    host = qemu_host(MILAN)
    given = ("Haswell-x86_64-cpu.avx2=off", "max-x86_64-cpu.pmu=off", "kvm-pit.lost_tick_policy=delay", "nosuch.x=1")
    assert qemu.realize("EPYC", Setup.of(host, Stack(globals=given))) == qemu.realize("EPYC", host)
    assert not qemu.realize("host", Setup.of(host, Stack(globals=given))).props["pmu"]


def test_a_global_is_refused_by_its_own_name() -> None:
    with pytest.raises(QemuError, match=r"^can't apply global x86_64-cpu\.foo=1: Property 'EPYC-x86_64-cpu\.foo' not found$"):
        guest_tables("EPYC", host=Setup.of(qemu_host(MILAN), Stack(globals=("x86_64-cpu.foo=1",))))


def test_a_global_makes_the_hole_of_a_pc_larger() -> None:
    host = qemu_host(MILAN)
    larger = Setup.of(host, Stack(globals=("q35-pcihost.pci-hole64-size=2T",)))
    with pytest.raises(QemuError, match=r"^Address space limit 0xffffffffff < 0x2ffffffffff phys-bits too low \(40\)$"):
        guest_tables("EPYC", host=larger)
    with pytest.raises(QemuError, match=r"^Address space limit 0xffffffffff < 0x200ffffffff phys-bits too low \(40\)$"):
        guest_tables("EPYC,vendor=GenuineIntel", host=larger)


@pytest.mark.parametrize("text", ["", "avx2=off", "x86_64-cpu.avx2", "driver=x,y=3", "device.x=1"])
def test_a_global_that_is_none_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="-global"):
        guest_tables("EPYC", host=Setup.of(qemu_host(MILAN), Stack(globals=(text,))))
