from __future__ import annotations

import pytest

from vcpuid import data
from vcpuid.cpuid.names import Feature, LinuxName, all_features, by_bit, find, find_all, short_place, spellings
from vcpuid.cpuid.words import Bit, CpuidWord, LinuxWord, MsrWord
from vcpuid.errors import InputError
from vcpuid.releases import BEFORE_RHEL_9_3, KERNELS, QEMUS, REBUILT

# text, name, place: as cpufeatures.h, reverse_cpuid.h, vmxfeatures.h, kvm_para.h and QEMU's feature_word_info have them.
KNOWN = [
    ("fpu", "fpu", "1.0.edx.0"),
    ("X86_FEATURE_DS", "dts", "1.0.edx.21"),
    ("ds", "dts", "1.0.edx.21"),
    ("pni", "pni", "1.0.ecx.0"),
    ("sse3", "pni", "1.0.ecx.0"),
    ("XMM3", "pni", "1.0.ecx.0"),
    ("xtpr", "xtpr", "1.0.ecx.14"),
    ("sse4_1", "sse4_1", "1.0.ecx.19"),
    ("sse4.1", "sse4_1", "1.0.ecx.19"),
    ("sse4-1", "sse4_1", "1.0.ecx.19"),
    ("avx2", "avx2", "7.0.ebx.5"),
    ("AVX2", "avx2", "7.0.ebx.5"),
    ("+avx2", "avx2", "7.0.ebx.5"),
    ("-avx2", "avx2", "7.0.ebx.5"),
    ("X86_FEATURE_AVX2", "avx2", "7.0.ebx.5"),
    ("9*32+5", "avx2", "7.0.ebx.5"),
    ("( 9*32+ 5)", "avx2", "7.0.ebx.5"),
    ("spec_ctrl", "spec-ctrl", "7.0.edx.26"),
    ("18*32+26", "spec-ctrl", "7.0.edx.26"),
    ("intel_stibp", "stibp", "7.0.edx.27"),
    ("lahf_lm", "lahf_lm", "80000001.0.ecx.0"),
    ("lahf-lm", "lahf_lm", "80000001.0.ecx.0"),
    ("cmp_legacy", "cmp_legacy", "80000001.0.ecx.1"),
    ("i64", "lm", "80000001.0.edx.29"),
    ("invtsc", "invtsc", "80000007.0.edx.8"),
    ("amd-ssbd", "amd-ssbd", "80000008.0.ebx.24"),
    ("nrip_save", "nrip_save", "8000000a.0.edx.3"),
    ("sgx1", "sgx1", "12.0.eax.0"),
    ("X86_FEATURE_SGX1", "sgx1", "12.0.eax.0"),
    ("11*32+8", "sgx1", "12.0.eax.0"),
    ("avx-vnni-int8", "avx-vnni-int8", "7.1.edx.4"),
    ("AVX_VNNI_INT8", "avx-vnni-int8", "7.1.edx.4"),
    ("intel-pt-lip", "intel-pt-lip", "14.0.ecx.31"),
    ("kvmclock", "kvmclock", "40000001.0.eax.0"),
    ("KVM_FEATURE_CLOCKSOURCE2", "kvmclock", "40000001.0.eax.3"),
    ("kvm_pv_unhalt", "kvm-pv-unhalt", "40000001.0.eax.7"),
    ("kvm-hint-dedicated", "kvm-hint-dedicated", "40000001.0.edx.0"),
    ("hv-relaxed", "hv-relaxed", "40000004.0.eax.5"),
    ("hv-apicv", "hv-avic", "40000004.0.eax.9"),
    ("HV_REFERENCE_TSC_AVAILABLE", "hv-time", "40000003.0.eax.9"),
    ("hv-no-nonarch-coresharing", "hv_no_nonarch_coresharing", "40000004.0.eax.18"),
    ("HV_POST_MESSAGES", "hv_post_messages", "40000003.0.ebx.4"),
    ("rdctl-no", "rdctl-no", "msr.10a.0"),
    ("ARCH_CAP_RDCL_NO", "rdctl-no", "msr.10a.0"),
    ("split-lock-detect", "split-lock-detect", "msr.cf.5"),
    ("full-width-write", "full-width-write", "msr.345.13"),
    ("vmx-ept", "vmx-ept", "msr.48b.1"),
    ("VMX_FEATURE_EPT", "vmx-ept", "msr.48b.1"),
    ("vmx-true-ctls", "vmx-true-ctls", "msr.480.55"),
    ("X86_FEATURE_SPLIT_LOCK_DETECT", "split_lock_detect", "CPUID_LNX_4.6"),
    ("11*32+6", "split_lock_detect", "CPUID_LNX_4.6"),
    ("CPUID_LNX_4.6", "split_lock_detect", "CPUID_LNX_4.6"),
    ("nonstop_tsc", "nonstop_tsc", "CPUID_LNX_1.24"),
    ("retpoline", "retpoline", "CPUID_LNX_4.12"),
    ("cpu_meltdown", "cpu_meltdown", "BUGS_1.14"),
    ("X86_BUG_BHI", "bhi", "BUGS_2.3"),
    ("X86_BUG_MONITOR", "monitor", "BUGS_1.12"),
]


@pytest.mark.parametrize(("text", "name", "place"), KNOWN)
def test_known(text: str, name: str, place: str) -> None:
    feature = find(text)
    assert (feature.name, short_place(feature.place)) == (name, place)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("7.0.ebx.5", "7.0.ebx.5"),
        ("0x7.ebx.5", "7.0.ebx.5"),
        ("CPUID[eax=07h,ecx=01h].EAX [bit 4]", "7.1.eax.4"),
        ("CPUID[eax=07h,ecx=01h].EAX.avx-vnni [bit 4]", "7.1.eax.4"),
        ("CPUID.07H:EBX.avx2 [bit 5]", "7.0.ebx.5"),
        ("CPUID.07H:EBX.avx2", "7.0.ebx.5"),
        ("CPUID[eax=07h,ecx=00h].EBX.avx512f", "7.0.ebx.16"),
        ("CPUID.07H:EAX.avx-vnni", "7.1.eax.4"),
        ("MSR(10AH).rdctl-no", "msr.10a.0"),
        ("MSR(10AH).rdctl-no [bit 0]", "msr.10a.0"),
        ("MSR.10A.0", "msr.10a.0"),
        # QEMU 7.2 and 10.0 log no sub-leaf; the name tells that it is 1, and without a name it is taken as 0.
        ("CPUID.07H:EAX.avx-vnni [bit 4]", "7.1.eax.4"),
        ("CPUID.0DH:EAX.xsaves [bit 3]", "d.1.eax.3"),
        ("CPUID.0DH:EAX [bit 3]", "d.0.eax.3"),
        ("7.1.edx.30", "7.1.edx.30"),
        ("CPUID_LNX_4 [bit 6]", "CPUID_LNX_4.6"),
    ],
)
def test_places(text: str, place: str) -> None:
    assert short_place(find(text).place) == place


def test_a_place_without_names_is_a_feature_without_names() -> None:
    bit = Bit(CpuidWord(7, 1, "edx"), 30)
    assert by_bit(bit) is None
    assert find("7.1.edx.30") == Feature(bit)
    assert Feature(bit).name == "7.1.edx.30"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("ibpb", ["80000008.0.ebx.12", "CPUID_LNX_2.26"]),
        ("split_lock_detect", ["msr.cf.5", "CPUID_LNX_4.6"]),
        ("monitor", ["1.0.ecx.3", "BUGS_1.12"]),
        ("vnmi", ["8000000a.0.edx.25", "msr.48d.5", "CPUID_LNX_3.1"]),
        ("fpu", ["1.0.edx.0", "80000001.0.edx.0"]),
        ("hv-time", ["40000003.0.eax.1", "40000003.0.eax.9"]),
        ("constant_tsc", ["80000007.0.edx.8", "CPUID_LNX_1.8"]),
        ("X86_FEATURE_CONSTANT_TSC", ["CPUID_LNX_1.8", "80000007.0.edx.8"]),
        ("X86_FEATURE_IBPB", ["CPUID_LNX_2.26"]),
    ],
)
def test_order_of_features_that_share_a_name(text: str, places: list[str]) -> None:
    assert [short_place(feature.place) for feature in find_all(text)] == places


def in_newest_kernel(feature: Feature) -> bool:
    return feature.bit is not None or feature.in_linux(KERNELS[-1]) is not None


def test_every_spelling_finds_its_feature() -> None:
    for feature in filter(in_newest_kernel, all_features()):
        for text in spellings(feature):
            assert feature in find_all(text), (feature.name, text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lzcnt", "abm"),
        ("cmpxchg16b", "cx16"),
        ("rdrnd", "rdrand"),
        ("AVX5124FMAPS", "avx512_4fmaps"),
        ("CNXT-ID", "cid"),
        ("psn", "pn"),
        ("page1gb", "pdpe1gb"),
        ("skip-l1dfl", "skip-l1dfl-vmentry"),
    ],
)
def test_names_of_compilers_manuals_and_xen_are_known(text: str, name: str) -> None:
    assert find(text).name == name
    assert text.lower().replace("-", "_") in [other.replace("-", "_") for other in find(text).others]


def test_a_name_of_others_gives_way_to_one_of_the_path() -> None:
    assert [short_place(feature.place) for feature in find_all("psfd")] == ["7.2.edx.0", "80000008.0.ebx.28"]
    taken = {key(name) for feature in all_features() for name in path_names(feature)}
    assert taken.isdisjoint(key(other) for feature in all_features() for other in feature.others)


def key(text: str) -> str:
    return text.lower().replace("_", "-")


def path_names(feature: Feature) -> list[str]:
    return [
        *(text for name in feature.linux_names for text in (name.symbol, name.cpuinfo) if text),
        *(text for name in feature.qemu_names for text in (name.name, *name.aliases)),
        *filter(None, (feature.libvirt, feature.manual)),
    ]


def test_features_of_older_kernels_only_are_found_by_name() -> None:
    # A place in Linux' own words means what the newest kernel has there.
    older = [feature for feature in all_features() if not in_newest_kernel(feature)]
    symbols = {feature.linux for feature in older}
    assert {"X86_FEATURE_P4", "X86_FEATURE_VNMI"} <= symbols
    assert "X86_FEATURE_PTI" not in symbols
    for feature in older:
        assert feature.linux is not None
        assert feature in find_all(feature.linux)


def test_spellings_don_t_care_for_case_nor_dashes_nor_sign() -> None:
    for feature in all_features():
        for text in (feature.name, *filter(None, (feature.linux, feature.qemu, feature.libvirt)), *feature.qemu_aliases):
            for variant in (text.upper(), text.replace("_", "-"), text.replace("-", "_"), f"+{text}", f" -{text} "):
                assert find(variant) is find(text)


def test_the_name_of_hardware_is_unique_by_place() -> None:
    features = [feature for feature in all_features() if feature.bit is not None]
    assert len({feature.bit for feature in features}) == len(features) > 600
    for feature in features:
        assert feature.bit is not None
        assert by_bit(feature.bit) is feature
        assert feature.bit.position < feature.bit.word.width


def test_a_symbol_in_full_means_the_feature_with_that_symbol() -> None:
    for feature in all_features():
        for name in feature.linux_names:
            assert name.symbol in {found.symbol for found in find(name.symbol).linux_names}


@pytest.mark.parametrize("release", QEMUS)
def test_every_feature_bit_of_qemu(release: str) -> None:
    catalog = data.load(f"qemu-{release}")
    count = 0
    for word in catalog["words"]:
        place = MsrWord(word["msr"]) if "msr" in word else CpuidWord(word["leaf"], word["index"], word["register"])
        for position, name in word["bits"].items():
            bit = Bit(place, int(position))
            feature = by_bit(bit)
            assert feature is not None
            assert feature in find_all(name)
            assert find(name).bit is not None
            assert find(name).bit.word == bit.word  # type: ignore[union-attr]  # said above
            qemu = feature.in_qemu(release)
            assert qemu is not None
            assert qemu.name == name
            count += 1
    named = sum(f.in_qemu(release) is not None for f in all_features() if f.qemu is None or not f.qemu.startswith("hv-"))
    assert named == count


def holder(symbol: str, kernel: str) -> tuple[Feature, LinuxName]:
    """The one feature that has the symbol as a number of Linux' arrays in that kernel."""
    found = [
        (feature, name)
        for feature in find_all(symbol)
        for name in feature.linux_names
        if name.symbol == symbol and name.number is not None and kernel in name.kernels
    ]
    assert len(found) == 1, symbol
    return found[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_feature_of_linux(kernel: str) -> None:
    # The tables of the package linux were read by another script.
    table = data.load(f"linux-{kernel}")
    scattered = {symbol: Bit(CpuidWord(function, index, register), bit) for symbol, function, index, register, bit in table["scattered"]}
    for symbol, word, position, cpuinfo in table["features"]:
        feature, name = holder(f"X86_FEATURE_{symbol}", kernel)
        word_name, place = table["words"][word]
        assert (name.number, name.word, name.cpuinfo) == (word * 32 + position, word_name, cpuinfo)
        assert feature.bit == scattered.get(symbol, place and Bit(CpuidWord(*place), position))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_bug_and_vmx_feature_of_linux(kernel: str) -> None:
    table = data.load(f"linux-{kernel}")
    for key, prefix in (("bugs", "X86_BUG_"), ("vmx", "VMX_FEATURE_")):
        for symbol, word, position, cpuinfo in table[key]:
            _, name = holder(prefix + symbol, kernel)
            assert (name.number, name.cpuinfo) == (word * 32 + position, cpuinfo)
        told = {n.symbol for f in all_features() for n in f.linux_names if kernel in n.kernels and n.symbol.startswith(prefix)}
        assert told == {prefix + row[0] for row in table[key]}


def test_history() -> None:
    vnmi = find("X86_FEATURE_VNMI")
    assert vnmi.in_linux("6.1") is None, "6.1 has the symbol at a place of its own"
    assert by_bit(Bit(LinuxWord("CPUID_LNX_3"), 1)) == find("X86_FEATURE_FLEXPRIORITY")
    amd_ibpb = find("X86_FEATURE_AMD_IBPB")
    assert amd_ibpb.hidden
    ept = find("X86_FEATURE_EPT")
    renumbered = KERNELS.index("6.6")
    old = {"4.18", *BEFORE_RHEL_9_3}
    taken_over = [kernel for kernel in KERNELS[:renumbered] if kernel in REBUILT and kernel not in old]  # Red Hat's, which have later code
    before = tuple(kernel for kernel in KERNELS[:renumbered] if kernel not in taken_over)
    moved = [(8 * 32 + 2, (*taken_over, *KERNELS[renumbered:])), (8 * 32 + 3, before)]
    assert [(name.number, name.kernels) for name in ept.linux_names] == moved
    amx_fp8 = find("amx-fp8")
    assert amx_fp8.in_qemu("10.0") is None
    assert amx_fp8.in_qemu("11.1") is not None


def test_names_go_from_the_newest_release_to_the_oldest_and_none_is_told_twice() -> None:
    for feature in all_features():
        for symbol in {name.symbol for name in feature.linux_names}:
            kernels = [kernel for name in feature.linux_names if name.symbol == symbol for kernel in name.kernels]
            assert len(set(kernels)) == len(kernels), symbol
        ends = [KERNELS.index(name.kernels[-1]) for name in feature.linux_names]
        assert ends == sorted(ends, reverse=True)
        for qemu in {name.name for name in feature.qemu_names}:
            releases = [release for name in feature.qemu_names if name.name == qemu for release in name.releases]
            assert len(set(releases)) == len(releases), qemu


def test_a_copy_of_leaf_1() -> None:
    copy = by_bit(Bit(CpuidWord(0x80000001, 0, "edx"), 4))
    assert copy is not None
    assert copy.copy_of is find("tsc")
    assert (copy.name, copy.linux, copy.hidden) == ("tsc", None, False)


def test_a_label_without_its_bit_has_a_name_that_stands_in_its_register() -> None:
    assert find_all("CPUID.07H:EBX.avx512f") == (find("avx512f"),)
    for text in ("CPUID.07H:ECX.avx512f", "CPUID.01H:EBX.avx512f", "CPUID[eax=07h,ecx=01h].EBX.avx512f", "MSR(10BH).rdctl-no"):
        with pytest.raises(InputError):
            find(text)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"no CPU feature is called 'axv2'; did you mean avx2\?"):
        find("axv2")
    with pytest.raises(InputError, match=r"no CPU feature is called 'qqqqqqqqqq'$"):
        find("qqqqqqqqqq")
    for text in ("", "7.0.ebx.32", "msr.10a.64", "99*32+1", "NOWHERE.3"):
        with pytest.raises(InputError):
            find(text)


NO_FEATURE = """
check cpuid-0xb enforce fill-mtrr-mask full-cpuid-auto-level host-cache-info host-phys-bits hotpluggable hotplugged hv-enforce-cpuid
hv-passthrough kvm kvm-no-smi-migration kvm-pv-enforce-cpuid l3-cache legacy-cache legacy-multi-node lmce migratable pmu realized
start-powered-off tcg-cpuid vmware-cpuid-freq x-amd-topoext-features-only x-arch-cap-always-on x-consistent-cache x-force-cpuid-0x1f
x-force-features x-hv-synic-kvm-only x-intel-pt-auto-level x-l1-cache-per-thread x-migrate-error-code x-migrate-smi-count
x-pdcm-on-even-without-pmu x-vendor-cpuid-only x-vendor-cpuid-only-v2 xen-vapic
"""
"""Every boolean property of QEMU's CPUs that is no bit of CPUID or of a feature MSR."""


@pytest.mark.parametrize("release", QEMUS)
def test_every_property_of_qemu_is_a_feature_or_known_to_be_none(release: str) -> None:
    catalog = data.load(f"qemu-{release}")
    booleans = {name for name, (kind, *_) in catalog["properties"].items() if kind == "bool"}
    for name in booleans - set(NO_FEATURE.split()):
        qemu = find(name).in_qemu(release)
        assert qemu is not None
        assert name == qemu.name
    for alias, name in catalog["aliases"].items():
        if name != "lbr-fmt":  # a number, not a bit
            assert find(alias) is find(name)
            assert alias in find(name).qemu_aliases


def test_properties_of_qemu_that_are_no_feature() -> None:
    assert set(NO_FEATURE.split()) <= set(data.load("features")["qemu_switches"])
    for name in (*NO_FEATURE.split(), "phys-bits", "level", "hv-spinlocks"):
        with pytest.raises(InputError, match="stands for no feature bit"):
            find(name)
