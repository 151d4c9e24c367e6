"""Every number that somebody else wrote is read by vcpuid.numbers, within the bound of its field, and counts no loop without one."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vcpuid
from support.qemu_captures import qemu_host
from vcpuid import numbers
from vcpuid.cpuid import CpuidTable, names
from vcpuid.errors import InputError, QemuError
from vcpuid.params import Params
from vcpuid.qemu import guest_tables
from vcpuid.qemu.global_option import pci_hole64
from vcpuid.qemu.values import TOO_LARGE, integer, size

ROOT = Path(vcpuid.__file__).parent
HOST = "tests/captures/kvm/kvm-intel.corei7_skylake_x@6.12.txt.gz"

ODD = ("²", "٣", "०१", "1_0", "0x1_0", "+1", "--5", " 1", "1 ", "08", "0xzz", "0x", "", "1e3", "0b1", "0o7", "1" * 5000, "0x" + "f" * 5000)

INT = {
    # Numbers of our own tables under data/, or that a program of ours printed.
    "cpuid/feature_table.py": 6,
    "libvirt/cpu_map.py": 3,
    "libvirt/told.py": 3,
    "decode/descriptors.py": 1,
    "decode/identity.py": 3,
    "decode/layout.py": 6,
    "live/qemu_inquiry.py": 5,
    "probe/child.py": 1,
    "qemu/startup.py": 7,
    "qemu/words.py": 1,
    "software/glibc.py": 2,
    # Digits that a pattern has found, of a fixed count and in ASCII: in dumps they are read by the hundred thousand.
    "decode/caches.py": 1,
    "formats/dump.py": 1,
    "formats/instlatx64.py": 3,
    "formats/kcpuid.py": 4,
    "formats/lines.py": 7,
    "fleet/reading.py": 3,
    "formats/strace.py": 6,
    # No texts.
    "cli/fleet_options.py": 1,
    "cli/fleet_store.py": 2,
    "fleet/collect.py": 1,
    "fleet/fleet.py": 2,
    "cli/kvm.py": 2,
    "cli/libvirt.py": 1,
    "live/kvm_device.py": 3,
    "params.py": 1,
    "qemu/leaves/cpu.py": 1,
    "qemu/properties.py": 1,
    "vmm/firecracker/normalize.py": 1,
}
"""Where `int` may be called, how often, and why it cannot be by what somebody chose."""

RANGE = {
    "decode/identity.py": 2,  # constants of its own, and our own tables
    "cpuid/walk.py": 1,  # _last: at most _RANGE_LIMIT leaves on
    "cpuid/whole.py": 1,  # likewise: last_of_range
    "kvm/leaves/sets.py": 1,  # Build has room for as many entries as KVM
    "kvm/supported.py": 1,  # likewise
    "qemu/guest.py": 2,  # -smp, within the machine's own limit of vCPUs
    "vmm/firecracker/guest.py": 1,  # within Firecracker's limit
}
"""Where a loop is counted by what a dump or a user says without a `min` in its own line, and what bounds it."""

UNBOUNDED = {"eax", "ebx", "ecx", "edx", "level", "xlevel", "xlevel2", "cpus", "max_cpus", "vcpus", "last", "registers", "count"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name != "numbers.py":
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield node


def test_texts_become_integers_in_one_place() -> None:
    assert +Counter({name: len(list(calls(tree, "int"))) for name, tree in modules()}) == Counter(INT)


def test_nobody_asks_whether_a_text_is_digits_of_any_script() -> None:
    asked = {
        (name, node.attr)
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("isdigit", "isdecimal", "isnumeric")
    }
    assert asked == {("decode/report.py", "isdigit")}  # a word of our own tables


def test_patterns_find_digits_of_ascii_alone() -> None:
    found = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\\d" in node.value
    }
    assert found <= {"qemu/unknown.py"}  # the version of a model, which is looked up as text


def test_no_loop_is_counted_by_what_somebody_chose() -> None:
    found: Counter[str] = Counter()
    for name, tree in modules():
        for call in calls(tree, "range"):
            bounded = any(isinstance(node, ast.Name) and node.id == "min" for node in ast.walk(call))
            words = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
            words |= {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            found[name] += not bounded and not words.isdisjoint(UNBOUNDED)
    assert +found == Counter(RANGE)


@given(st.integers(0, 1 << 70), st.sampled_from((numbers.U32, numbers.U64, 31, 0)), st.integers(0, 30))
def test_a_number_is_read_up_to_its_bound(value: int, largest: int, zeros: int) -> None:
    wanted = value if value <= largest else None
    assert numbers.decimal("0" * zeros + str(value), largest) == wanted
    assert numbers.hexadecimal(f"0X{value:x}", largest) == numbers.hexadecimal("0" * zeros + f"{value:X}", largest) == wanted
    assert numbers.number(str(value), largest) == numbers.number(f"{value:#x}", largest) == wanted
    assert numbers.digits(f"{value:b}", 2, largest) == numbers.digits(f"{value:o}", 8, largest) == wanted


@pytest.mark.parametrize("text", ODD)
def test_what_int_takes_besides_digits_is_no_number(text: str) -> None:
    assert numbers.number(text) is None
    assert numbers.decimal(text) in (None, 8)


@pytest.mark.parametrize("text", [text for text in ODD if text.strip() == text and text])
@pytest.mark.parametrize("name", ["nested", "kvm_amd.nested", "pmu_counters", "max_vcpus", "msr.10a"])
def test_a_parameter_is_a_number_or_refused(name: str, text: str) -> None:
    with pytest.raises(InputError) as refused:
        Params.of({name: text})
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "given_", [{"nested": 1 << 40}, {"nested": 10**5000}, {"max_vcpus": -1}, {"pmu_counters": 256}, {"msr.1_0": 1}, {"msr.10a": -1}]
)
def test_a_parameter_has_the_bounds_of_its_field(given_: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Params.of(given_)


@pytest.mark.parametrize("digits", ["٣", "²", "1_0", "1" * 5000])
@pytest.mark.parametrize("place", ["7.0.ebx.{}", "{}*32+1", "1*32+{}", "msr.10a.{}", "CPUID_LNX_4.{}", "CPUID.07H:EBX.avx2 [bit {}]"])
def test_a_place_has_digits_and_bounds(place: str, digits: str) -> None:
    with pytest.raises(InputError):
        names.find(place.format(digits))


@pytest.mark.parametrize("place", ["fffffffff.0.ebx.1", "7.fffffffff.ebx.1", "MSR(fffffffff10Ah) [bit 0]", "msr.fffffffff.0"])
def test_there_are_no_leaves_and_msrs_beyond_32_bits(place: str) -> None:
    assert names.parse_place(place) is None


@pytest.mark.parametrize("text", ["٣", "²", "1_0", "08", "1 ", "0x", "2K", "1" * 5000, "0x" + "1" * 5000, "0" * 70 + "9"])
def test_qemu_reads_no_integer_there(text: str) -> None:
    """Asked of QEMU 7.2.22: -smp with each."""
    assert integer(text, signed=False) is None


SIZES = {
    # As x86_cpu_parse_featurestr and pci-hole64-size of QEMU 7.2.22 took or refused them.
    "2.5G": 2_500_000_000, " 3": 3, "+3": 3, "010": 10, "1b": 1, "1.B": 1, "1.": 1, "0x10": 16, "0x2K": 2000, "0.0005K": 1, "0.0004K": 0,
    "": None, ".": None, ".5G": None, "-3": None, "1e3": None, "0x1.5": None, "٣": None, "1.5": None, "0x": None, "2.5Gx": None,
    "9" * 30: TOO_LARGE, "19E": TOO_LARGE, "9" * 30 + "G": None, "1." + "1" * 5000: None, "1" * 5000: TOO_LARGE,
}  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_sizes_are_read_as_qemu_does(text: str) -> None:
    assert size(text, 1000, (7, 2)) == SIZES[text]


@pytest.mark.parametrize(("text", "value"), [(".5G", 500_000_000), ("0x2K", None), ("0x2", 2), (".", None)])
def test_since_qemu_8_1_a_fraction_may_begin_and_a_hexadecimal_number_has_no_suffix(text: str, value: int | None) -> None:
    assert size(text, 1000, (10, 0)) == value


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("16E", "Value '16E' is out of range for parameter 'pci-hole64-size'"),
        ("64Q", "Parameter 'pci-hole64-size' expects a non-negative number below 2^64"),
    ],
)
def test_a_hole_that_is_no_size_is_refused_in_qemus_words(value: str, cause: str) -> None:
    with pytest.raises(QemuError) as refused:
        pci_hole64([f"q35-pcihost.pci-hole64-size={value}"], "pc-q35-7.2", 0, (7, 2))
    assert refused.value.message == f"can't apply global q35-pcihost.pci-hole64-size={value}: {cause}"


def model_id(text: str, qemu: str) -> bytes:
    table = guest_tables(f"host,model-id={text}", host=qemu_host("tcg/EPYC-Genoa-v1@7.3"), qemu=qemu).tables[0]
    registers = (register for leaf in (2, 3, 4) for register in table.registers(0x80000000 + leaf))
    return b"".join(register.to_bytes(4, "little") for register in registers)


@pytest.mark.parametrize("qemu", ["7.2", "11.1"])
def test_texts_are_bytes_to_qemu(qemu: str) -> None:
    assert model_id("日本", qemu) == "日本".encode().ljust(48, b"\0")
    assert model_id("\udce6", qemu) == b"\xe6".ljust(48, b"\0")
    assert model_id("日" * 17, qemu) == ("日" * 16).encode()
    with pytest.raises(InputError, match="half of a character"):
        model_id("\ud800", qemu)


def test_a_vendor_has_twelve_bytes() -> None:
    host = qemu_host("tcg/EPYC-Genoa-v1@7.3")
    assert guest_tables("host,vendor=日本日本", host=host, qemu="7.2").state.vendor.encode("latin-1") == "日本日本".encode()
    with pytest.raises(QemuError, match=r"Property '\.vendor' doesn't take value '日本日本日本日本日本日本'"):
        guest_tables("host,vendor=" + "日本" * 6, host=host, qemu="7.2")


@pytest.mark.parametrize("qemu", ["7.2", "11.1"])
def test_the_sub_leaf_that_has_no_room_is_named(qemu: str) -> None:
    """QEMU 7.2.22: cpuid_data is full, no space for cpuid(eax:0x7,ecx:0x5c), where the host's leaves before leave so much room."""
    with pytest.raises(QemuError) as refused:
        guest_tables("host,level-func7=0x7fffffff", host=vcpuid.read(HOST), qemu=qemu)
    told = refused.value.message
    assert told.startswith("cpuid_data is full, no space for cpuid(eax:0x7,ecx:0x")
    assert 0x40 < int(told[:-1].rpartition("0x")[2], 16) < 0x64


@pytest.mark.parametrize(
    ("smp", "told"),
    [
        ("1,cores=65536,threads=65536", "Floating point exception"),
        ("cores=65536,threads=65536", "Invalid SMP CPUs 0. The min CPUs supported by machine 'pc-q35-7.2' is 1"),
        ("cores=65536,threads=65537", "Invalid SMP CPUs 65536. The max CPUs supported by machine 'pc-q35-7.2' is 288"),
        ("-1", "Invalid SMP CPUs -1. The max CPUs supported by machine 'pc-q35-7.2' is 288"),
    ],
)
def test_qemu_multiplies_in_32_bits(smp: str, told: str) -> None:
    """QEMU 7.2.22; where it divides by a product that has become 0 it says nothing, and the shell does."""
    with pytest.raises(QemuError) as refused:
        guest_tables("host", host=vcpuid.read(HOST), smp=smp, qemu="7.2")
    assert refused.value.message == told


@pytest.mark.parametrize("smp", ["1,threads=-1,cores=-1,sockets=1", "1,cores=6700417,threads=641", "1,sockets=-1,cores=-1"])
@pytest.mark.parametrize("qemu", ["7.2", "11.1"])
def test_qemu_aborts_over_counts_whose_product_is_small_in_32_bits_alone(smp: str, qemu: str) -> None:
    """As QEMU 7.2.22 did; a CPU whose leaves end before leaf 0xB gets its registers, with what fits into them."""
    host = vcpuid.read(HOST)
    with pytest.raises(QemuError, match="cpu_x86_cpuid: Assertion"):
        guest_tables("host", host=host, smp=smp, qemu=qemu)
    table = guest_tables("core2duo", host=host, smp=smp, qemu=qemu).tables[0]
    assert all(value <= numbers.U32 for entry in table for value in entry)


def test_sizes_of_leaf_d_that_overflow_lose_what_is_above_32_bits() -> None:
    host = vcpuid.read(HOST)
    huge = [entry._replace(eax=numbers.U32, ebx=numbers.U32) if entry.function == 0xD and entry.index > 1 else entry for entry in host.raw]
    snapshot = replace(host, raw=CpuidTable(huge))
    for qemu in ("7.2", "11.1"):
        table = guest_tables("host", host=snapshot, qemu=qemu).tables[0]
        assert all(value <= numbers.U32 for entry in table for value in entry)
