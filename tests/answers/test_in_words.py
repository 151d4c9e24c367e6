"""What is proposed, in the words of those who manage guests; what is read back of it is what was written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from support.command import vcpuid
from vcpuid.answers.in_words import MANAGERS, in_words
from vcpuid.cpuid.names import find_all
from vcpuid.formats import parse as parse_dump
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.managers import proxmox_flags

TABLES = catalog("11.1")
SKYLAKE = "tests/captures/kvm/kvm-intel.corei7_skylake_x@6.12.txt.gz"


def lines(cpu: str, manager: str) -> list[str]:
    return list(in_words(cpu, manager, TABLES).lines)


def remarks(cpu: str, manager: str) -> str:
    return "\n".join(in_words(cpu, manager, TABLES).remarks)


def test_qemu_s_own_words_are_the_argument() -> None:
    assert lines("Haswell-v4,+vmx", "qemu") == ["-cpu Haswell-v4,+vmx"]


def test_libvirt_gets_its_names_and_the_name_without_a_version() -> None:
    text = "\n".join(lines("Haswell-v4,+sse4.1,-tsc-deadline,pclmulqdq=off", "libvirt"))
    assert "<model fallback='forbid'>Haswell-noTSX-IBRS</model>" in text
    (snapshot,) = parse_dump(text, "proposal")
    assert snapshot.cpu == "Haswell-noTSX-IBRS"
    assert snapshot.named == {"sse4.1": True, "tsc-deadline": False, "pclmuldq": False}


def test_every_feature_that_qemu_and_libvirt_name_is_written_and_read_back_as_the_same_bit() -> None:
    count = 0
    for name in TABLES.flags:
        text = lines(f"Haswell,+{name}", "libvirt")
        if len(text) == 3:
            assert name in remarks(f"Haswell,+{name}", "libvirt")
            continue
        count += 1
        own = ET.fromstring("\n".join(text)).find("feature")
        assert own is not None
        assert any(name in [q.name for q in feature.qemu_names] for feature in find_all(own.get("name", "")))
    assert count > 250


def test_the_host_s_own_cpu_is_a_mode() -> None:
    assert lines("host", "libvirt") == ["<cpu mode='host-passthrough'/>"]
    assert lines("host,-pdcm", "nova") == ["[libvirt]", "cpu_mode = host-passthrough", "cpu_model_extra_flags = -pdcm"]
    assert lines("host", "kubevirt") == ["cpu:", "  model: host-passthrough"]
    assert lines("host", "proxmox") == ["cpu: host"]


def test_kubevirt_s_and_nova_s_forms() -> None:
    assert lines("Broadwell-v2,-pcid,+invtsc", "kubevirt") == [
        "cpu:",
        "  model: Broadwell-noTSX",
        "  features:",
        "  - name: invtsc",
        "    policy: require",
        "  - name: pcid",
        "    policy: disable",
    ]
    assert lines("Broadwell-v2,-pcid,+invtsc", "nova") == [
        "[libvirt]",
        "cpu_mode = custom",
        "cpu_models = Broadwell-noTSX",
        "cpu_model_extra_flags = +invtsc,-pcid",
    ]
    assert lines("486", "kubevirt")[1] == '  model: "486"', "YAML would read a number"


def test_proxmox_lets_a_vm_set_few_flags_and_a_type_of_one_s_own_any() -> None:
    assert lines("Haswell-v2,+pcid,-aes,kvm=off", "proxmox") == ["cpu: Haswell-noTSX,flags=+pcid;-aes,hidden=1"]
    assert lines("Haswell-v2,+pcid,-rdtscp", "proxmox") == [
        "# /etc/pve/virtual-guest/cpu-models.conf", "cpu-model: mine", "    flags +pcid;-rdtscp", "    reported-model Haswell-noTSX", "",
        "# /etc/pve/qemu-server/VMID.conf", "cpu: custom-mine",
    ]  # fmt: skip
    assert "does not take rdtscp," in remarks("Haswell-v2,+pcid,-rdtscp", "proxmox")
    assert lines("qemu64,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3", "proxmox") == ["cpu: x86-64-v2"]
    for flag in proxmox_flags():
        assert in_words(f"Haswell,+{flag}", "proxmox", TABLES).lines[0].startswith("cpu: ") or flag.startswith("hv-")


@pytest.mark.parametrize("manager", [manager for manager in MANAGERS if manager not in ("qemu", "incus", "lxd")])
def test_what_has_no_place_is_told(manager: str) -> None:
    said = remarks("Haswell,pmu=off,hv-relaxed", manager)
    assert "pmu=off" in said
    assert "hv-relaxed" in said


def test_check_and_diagnose_write_the_proposal() -> None:
    done = vcpuid("check", "Skylake-Server", SKYLAKE, "--qemu", "11.1", "--for", "proxmox")
    assert "For proxmox:" in done.stdout
    assert "    cpu: custom-mine" in done.stdout
    told = json.loads(vcpuid("check", "Skylake-Server", SKYLAKE, "--qemu", "11.1", "--for", "nova", "--format", "json").stdout)
    assert told["written"]["for"] == "nova"
    assert "cpu_models = Skylake-Server" in told["written"]["text"]
    assert json.loads(vcpuid("check", "Haswell-noTSX", SKYLAKE, "--qemu", "11.1", "--format", "json").stdout)["written"] is None
    warning = "warning: host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]"
    found = vcpuid("diagnose", warning, "--host", SKYLAKE, "--cpu", "Haswell", "--qemu", "11.1", "--for", "kubevirt").stdout
    assert "      model: Haswell-noTSX" in found
