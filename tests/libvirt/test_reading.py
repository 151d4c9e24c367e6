"""Whatever is asked of a libvirt is answered, refused in libvirt's words, or is one line of bad input: no traceback, in bounded time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.libvirt_captures import played
from vcpuid.errors import InputError, LibvirtError, RemarkWarning
from vcpuid.libvirt import ask

HOST = "bochs/corei7_skylake_x@6.12"


def asked(request: dict[str, Any], release: str = "11.3") -> dict[str, Any]:
    setup, kvm = played(HOST, f"{release}.0")
    return ask(request, host=setup, libvirt=release, kvm=kvm)


def refusal(request: dict[str, Any], release: str = "11.3") -> tuple[int, int, str]:
    with pytest.raises(LibvirtError) as error:
        asked(request, release)
    return error.value.code, error.value.domain, error.value.message


@pytest.mark.parametrize(
    ("cpu", "domain", "message"),
    [
        ("<domain/>", 31, "XML error: XML does not contain expected 'cpu' element"),
        (
            "<cpu match='exact'><arch>x86_64</arch></cpu>",
            31,
            "XML error: 'arch' element cannot be used inside 'cpu' element with 'match' attribute'",
        ),
        ("<cpu><arch>x86_64</arch></cpu>", 31, "XML error: Missing CPU model name"),
        ("<cpu><arch/><model>qemu64</model></cpu>", 31, "XML error: Missing CPU architecture"),
        ("<cpu><vendor>Intel</vendor></cpu>", 31, "XML error: CPU vendor specified without CPU model"),
        (
            "<cpu><arch>x86_64</arch><model>a</model><signature family='6' model='1'/></cpu>",
            5,
            "XML error: Missing required attribute 'stepping' in element 'signature'",
        ),
        (
            "<cpu><arch>x86_64</arch><model>a</model><signature family='0' model='1' stepping='1'/></cpu>",
            5,
            "XML error: Invalid value for attribute 'family' in element 'signature': Zero is not permitted",
        ),
        (
            "<cpu><model>a</model><topology sockets='-1' cores='1' threads='1'/></cpu>",
            5,
            "XML error: Invalid value for attribute 'sockets' in element 'topology': '-1'. Expected non-negative integer value",
        ),
        (
            "<cpu><model>a</model><cache mode='emulate'/><cache mode='emulate'/></cpu>",
            31,
            "XML error: at most one CPU cache element may be specified",
        ),
        (
            "<cpu><model>a</model><cache level='-1' mode='emulate'/></cpu>",
            5,
            "XML error: Invalid value for attribute 'level' in element 'cache': '-1'. Expected non-negative value",
        ),
        (
            "<cpu><model>a</model><cache level='x' mode='emulate'/></cpu>",
            5,
            "XML error: Invalid value for attribute 'level' in element 'cache': 'x'. Expected integer value",
        ),
        ("<cpu><model vendor_id='Genuine,ntel'>a</model></cpu>", 31, "XML error: vendor id is invalid"),
    ],
)
def test_a_cpu_is_refused_in_libvirts_words(cpu: str, domain: int, message: str) -> None:
    assert refusal({"do": "compare", "cpu": cpu}) == (27, domain, message)


def test_what_only_newer_releases_read() -> None:
    limited = "<cpu mode='host-passthrough'><maxphysaddr mode='emulate' bits='40' limit='40'/></cpu>"
    assert asked({"do": "argv", "cpu": limited}, "9.0")["-cpu"] == "host,migratable=on,phys-bits=40"
    assert refusal({"do": "argv", "cpu": limited}) == (
        67, 31, "unsupported configuration: attribute 'limit' is only supported for maxphysaddr mode 'passthrough'"
    )  # fmt: skip
    new = {"do": "argv", "features": "<hyperv><xmm_input state='on'/></hyperv>"}
    assert asked(new)["-cpu"] == "qemu64,hv-xmm-input=on"
    assert refusal(new, "9.0") == (67, 20, "unsupported configuration: unsupported HyperV Enlightenment feature: xmm_input")


@pytest.mark.parametrize(
    ("features", "code", "message"),
    [
        ("<hypervv/>", 67, "unsupported configuration: unexpected feature 'hypervv'"),
        ("<kvm><shown state='on'/></kvm>", 67, "unsupported configuration: unsupported KVM feature: shown"),
        ("<hyperv><spinlocks state='on' retries='0xffe'/></hyperv>", 27, "XML error: HyperV spinlock retry count must be at least 4095"),
        (
            "<hyperv><vendor_id state='on' value='thirteen, all'/></hyperv>",
            27,
            "XML error: HyperV vendor_id value must not be more than 12 characters.",
        ),
        ("<hyperv><vendor_id state='on' value='a,b'/></hyperv>", 27, "XML error: HyperV vendor_id value is invalid"),
        ("<hyperv><vendor_id state='on'/></hyperv>", 27, "XML error: missing 'value' attribute for HyperV feature 'vendor_id'"),
        (
            "<hyperv><stimer state='on'><indirect/></stimer></hyperv>",
            67,
            "unsupported configuration: unsupported Hyper-V stimer feature: indirect",
        ),
        (
            "<hyperv><tlbflush state='on'><far state='on'/></tlbflush></hyperv>",
            67,
            "unsupported configuration: unsupported Hyper-V tlbflush feature: far",
        ),
    ],
)
def test_features_are_refused_in_libvirts_words(features: str, code: int, message: str) -> None:
    assert refusal({"do": "argv", "features": features}) == (code, 20, message)


def test_the_argument_of_what_a_domain_has_besides_its_cpu() -> None:
    domain = """<domain type='kvm'><vcpu current='2'>4</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
      <features><apic eoi='on'/><hyperv><tlbflush state='on'><direct state='on'/><extended state='on'/></tlbflush></hyperv></features>
      <cpu mode='custom' match='exact' check='none'><model vendor_id='TwelveLetter'>qemu64</model></cpu>
      <clock offset='utc'><timer name='hypervclock' present='no'/><timer name='tsc' frequency='1000'/></clock></domain>"""
    assert asked({"do": "argv", "domain": domain}) == {
        "-machine": "pc-i440fx-10.0,usb=off,dump-guest-core=off,memory-backend=pc.ram,acpi=on",
        "-accel": "kvm",
        "-cpu": "qemu64,vendor=TwelveLetter,tsc-frequency=1000,kvm-pv-eoi=on,hv-tlbflush=on,hv-tlbflush-direct=on,hv-tlbflush-ext=on",
        "-smp": "2,maxcpus=4,sockets=4,cores=1,threads=1",
    }


def test_an_unknown_machine_and_an_unknown_flag() -> None:
    message = "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-99.0'"
    assert refusal({"do": "argv", "machine": "pc-q35-99.0"}) == (67, 10, message)
    assert refusal({"do": "baseline", "cpus": ["<cpu/>"], "flags": 8}) == (
        8,
        10,
        "unsupported flags (0x8) in function qemuConnectBaselineCPU",
    )


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"do": "__init__"},
        {"do": "compare"},
        {"do": "compare", "cpu": 7},
        {"do": "compare", "cpu": "<cpu><model>qemu64</model>"},
        {"do": "compare", "cpu": "<!DOCTYPE cpu [<!ENTITY a 'b'>]><cpu><model>&a;</model></cpu>"},
        {"do": "compare", "cpu": "<cpu>" + "<a>" * 1_000_000},
        {"do": "compare", "cpu": "<cpu><model>qemu64</model></cpu>", "flags": 2},
        {"do": "baseline", "cpus": "<cpu/>"},
        {"do": "argv", "cpu": "<cpu/></domain>"},
        {"do": "argv", "virt": "xen"},
        {"do": "argv", "domain": "<domain type='xen'/>"},
        {"do": "domcapabilities", "flags": "all"},
    ],
    ids=range(13),
)
def test_what_is_no_request_is_one_line(request_: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        asked(request_)
    assert "\n" not in str(error.value)


def test_another_releases_map_is_told() -> None:
    setup, _ = played(HOST, "11.3.0")
    with pytest.warns(RemarkWarning, match=r"no tables of libvirt 10\.2: those of 9\.0 are used"):
        models = ask({"do": "models"}, host=setup, libvirt="10.2")["models"]
    assert models == ask({"do": "models"}, host=setup, libvirt="9.0")["models"]
    assert ask({"do": "models"}, host=setup) == asked({"do": "models"}, "12.9")


def test_a_start_may_use_what_kvm_has_of_amx() -> None:
    """Without a KvmHost, QEMU asks for the permission, as Linux wants it."""
    setup, kvm = played("bochs/sapphire_rapids-gnr@7.3", "11.3.0")
    start = {"do": "start", "cpu": "<cpu mode='custom' check='none'><model>SapphireRapids</model></cpu>"}
    assert ask(start, host=setup, libvirt="11.3") == ask(start, host=setup, libvirt="11.3", kvm=kvm)


NAMES = st.sampled_from(("avx", "mpx", "xop", "svm", "invtsc", "pconfig", "osxsave", "vmx-ept", "none-such", "", "a\u0301", "&amp;"))
FEATURES = st.lists(st.tuples(st.sampled_from(("force", "require", "optional", "disable", "forbid", "ask")), NAMES), max_size=6)
MODELS = st.sampled_from(("qemu64", "Haswell", "Icelake-Server", "EPYC-Milan", "EPYC-Genoa-v2", "486", "cpu64-rhel6", "YongFeng", "none"))


@given(
    MODELS,
    FEATURES,
    st.sampled_from(("custom", "host-model", "host-passthrough", "maximum")),
    st.sampled_from(("exact", "minimum", "strict")),
    st.sampled_from(("none", "partial", "full", "default")),
    st.sampled_from(("9.0", "11.3", "12.9")),
    st.sampled_from(("start", "argv", "compare", "hypervisor_compare")),
)
def test_whatever_is_asked_there_is_an_answer_or_a_refusal(
    model: str, features: list[tuple[str, str]], mode: str, match: str, check: str, release: str, do: str
) -> None:
    listed = "".join(f"<feature policy='{policy}' name='{name}'/>" for policy, name in features)
    cpu = f"<cpu mode='{mode}' match='{match}' check='{check}'><model>{model}</model>{listed}</cpu>"
    try:
        assert asked({"do": do, "cpu": cpu}, release)
    except LibvirtError as error:
        told = error
    else:
        return
    assert told.message
    assert told.code
