"""What managers of guests and Windows print of features: labels, lists, forms of a CPU; texts as reports have them."""

from __future__ import annotations

import pytest

from support import captures
from support.command import vcpuid
from vcpuid.diagnosis import diagnose
from vcpuid.qemu.managers import understood
from vcpuid.setup import Stack

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"

POD = """\
QoS Class:       Burstable
Node-Selectors:  cpu-feature.node.kubevirt.io/3dnow=true
                 cpu-feature.node.kubevirt.io/3dnowext=true
                 cpu-feature.node.kubevirt.io/abm=true
                 host-model-required-features.node.kubevirt.io/amd-ssbd=true
                 cpu-model.node.kubevirt.io/Skylake-Client-IBRS=true
                 kubevirt.io/schedulable=true
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
  Warning  FailedScheduling  0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.
"""
SPEC = """\
spec:
  nodeSelector:
    cpu-feature.node.kubevirt.io/tsc-deadline: "true"
    host-model-required-features.node.kubevirt.io/fsrm: "true"
    kubevirt.io/schedulable: "true"
  restartPolicy: Never
"""
JSON = """\
{
  "cpu-feature.node.kubevirt.io/arch-capabilities": "true",
  "cpu-feature.node.kubevirt.io/cmp_legacy": "true",
  "cpu-feature.node.kubevirt.io/tsc-scale": "true"
}
"""
COREINFO = """\
Coreinfo v3.31 - Dump information on system CPU and memory topology
HYPERVISOR      -       Hypervisor is present
VMX             *       Supports Intel hardware-assisted virtualization
EPT             -       Supports Intel extended page tables (SLAT)
NP              -       Supports AMD nested page tables (SLAT)
"""
SYSTEMINFO = """\
Hyper-V Requirements:      VM Monitor Mode Extensions: No
                           Virtualization Enabled In Firmware: No
                           Second Level Address Translation: No
                           Data Execution Prevention Available: Yes
"""
VDSM = "cpuFlags=fpu,vme,model_Haswell-noTSX,pcid"


def told(text: str) -> list[tuple[str, str]]:
    return [(one.named.name, one.named.state) for one in diagnose(text).findings]


def names(text: str) -> list[str]:
    return [name for name, _ in told(text)]


def test_a_pods_selectors_are_features_of_which_a_node_may_lack_one() -> None:
    found = diagnose(POD)
    assert [match.message.id for match in found.answers] == ["kubevirt.selectors"]
    assert [match.message.id for match in found.wrappers] == ["k8s.unschedulable"]
    assert [one.named.name for one in found.findings if one.named.feature] == ["3dnow", "3dnowext", "abm", "amd-ssbd"]
    assert {one.named.state for one in found.findings} == {"possible"}
    (model,) = [one.named for one in found.findings if one.named.feature is None]
    assert "vcpuid check Skylake-Client-IBRS HOST" in (model.remark or "")
    assert model.remark is not None
    assert "the CPU model Skylake-Client-IBRS, which libvirt must call usable" in vcpuid("diagnose", "-", stdin=POD).stdout


def test_selectors_in_yaml_and_json() -> None:
    assert names(SPEC) == ["tsc_deadline_timer", "fsrm"]
    assert names(JSON) == ["arch_capabilities", "cmp_legacy", "tsc_scale"]


def test_labels_of_a_node_are_no_selectors() -> None:
    assert "kubevirt.selectors" not in [match.message.id for match in diagnose(POD.replace("Node-Selectors:", "Labels:")).matches]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Skipping CPU model EPYC-IBPB: host CPU does not provide required features: [monitor]", ["monitor"]),
        ("model_Skylake-Server,spec_ctrl,pcid", ["model_Skylake-Server", "spec-ctrl", "pcid"]),
        (VDSM.partition("=")[2], ["fpu", "vme", "model_Haswell-noTSX", "pcid"]),
        ("kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 3", ["svm"]),
        ("SVM disabled (by BIOS) in MSR_VM_CR", ["svm"]),
        ("MSR_IA32_SPEC_CTRL", None),
        ("IA32_ARCH_CAPABILITIES", ["arch-capabilities"]),
        ("SLAT", ["vmx-ept", "npt"]),
        ("RDWRFSGSBASE", ["fsgsbase"]),
        (COREINFO, ["vmx-ept", "npt"]),
        (SYSTEMINFO, ["vmx", "svm", "vmx-ept", "npt"]),
    ],
)
def test_features_of_a_text(text: str, expected: list[str] | None) -> None:
    found = names(text)
    if expected is None:
        assert len(found) > 1
    else:
        assert [name.replace("_", "-") for name in found] == [name.replace("_", "-") for name in expected]


@pytest.mark.parametrize(
    ("text", "cpu"),
    [
        ("host,flags=+aes;-pcid", "host,+aes,-pcid"),
        ("cputype=host,hidden=1,phys-bits=host", "host,kvm=off,host-phys-bits=on"),
        ("host,phys-bits=host", "host,host-phys-bits=on"),
        ("cputype=" * 3000 + "host", "cputype=" * 2999 + "host"),
        ("kvm64,flags=+pcid,phys-bits=40", "kvm64,+pcid,phys-bits=40"),
        ("x86-64-v2-AES,flags=-aes", None),
        ("host,+aes", "host,+aes"),
    ],
)
def test_proxmoxs_form_of_a_cpu_is_understood_wherever_one_is_asked_for(text: str, cpu: str | None) -> None:
    found = understood(text)
    assert found.cpu == cpu if cpu is not None else found.cpu.startswith("qemu64,") and found.cpu.endswith(",-aes")
    assert (found.remark is None) == (found.cpu == text)


@pytest.mark.parametrize(
    "line", ["cpu: Skylake-Server,flags=+aes;-pcid", "# qm set 100 --cpu cputype=Skylake-Server,flags=+aes;-pcid", "cpu: Skylake-Server"]
)
def test_the_cpu_of_a_proxmox_vm_is_taken_from_the_paste(line: str) -> None:
    rtm = "kvm: warning: host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]"
    found = diagnose(f"bios: ovmf\n{line}\ncores: 4\n{rtm}\n", captures.host(SKYLAKE), stack=Stack(qemu="10.0"))
    assert found.cpu is not None
    assert found.cpu.removeprefix("cputype=").startswith("Skylake-Server")
    assert found.verdict is not None
    assert found.proposal is not None
    assert "-rtm" in found.proposal


@pytest.mark.parametrize("line", ["cpu: 2", "cpu: 500m", "cpu: 0 1 2", "cpu: custom-mine", "    cpu: ssd"])
def test_a_cpu_line_that_names_no_cpu_is_none(line: str) -> None:
    assert diagnose(f"resources:\n{line}\nkvm: disabled by bios\n").cpu is None


@pytest.mark.parametrize(
    "text",
    [
        "Configured CPU model: Cascadelake-Server and CPU Flags ['avx512vnni'] are not compatible with host CPU",
        "Node-Selectors: cpu-feature.node.kubevirt.io/avx512vnni=true\n  cpu-model.node.kubevirt.io/Cascadelake-Server=true\n",
    ],
)
def test_the_model_that_a_manager_names_is_the_guests(text: str) -> None:
    found = diagnose(text, captures.host(SKYLAKE))
    assert found.cpu == "Cascadelake-Server"
    assert [one.cpu for one in found.findings if one.named.name == "avx512_vnni"] == ["Cascadelake-Server"]
