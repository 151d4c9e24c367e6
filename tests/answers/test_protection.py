"""Whether a guest is protected, in the first lines of an answer: yes, partly or no, in its kernel's words, and what it lacks for more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import captures
from support.command import vcpuid
from vcpuid.answers.explain import explain
from vcpuid.answers.shown import as_printed
from vcpuid.answers.sysfs import bug_of, served, stakes
from vcpuid.answers.vulnerabilities import told_inside
from vcpuid.cpuid.names import find
from vcpuid.linux import vulnerabilities
from vcpuid.path.pipeline import Path, guest_snapshot, resolve
from vcpuid.releases import linux
from vcpuid.setup import Stack
from vcpuid.sources import read

SAPPHIRE, SKYLAKE = "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-intel.corei7_skylake_x@6.12"
MILAN, TURIN = "kvm-amd.EPYC-Milan-v3@6.12", "kvm-amd.EPYC-Turin-v1@6.12"
LATEST = {"qemu": "11.1", "smp": "4,threads=2"}


def guest(machine: str, cpu: str, **stack: str) -> Path:
    return resolve(cpu, host=captures.host(machine), stack=Stack(kernel=captures.release(machine), **{**LATEST, **stack}))


def first_lines(machine: str, cpu: str, *features: str) -> list[str]:
    done = vcpuid("explain", *features, "--host", str(captures.capture(machine)), "--cpu", cpu, "--qemu", "11.1")
    return done.stdout.splitlines()


@pytest.mark.parametrize("machine", [SAPPHIRE, SKYLAKE, MILAN, TURIN])
@pytest.mark.parametrize("cpu", ["qemu64", "Haswell-v1", "Skylake-Server-v1", "EPYC-v1", "EPYC-Milan", "host"])
def test_a_guest_that_has_what_it_lacks_says_what_was_promised(machine: str, cpu: str) -> None:
    path = guest(machine, cpu)
    (inside, kernel) = told_inside(path)[0], path.setup.kernel.tables
    for verdict in inside.files:
        assert not (verdict.needs and verdict.more), verdict.file
        for one in verdict.more:
            given = resolve(f"{cpu},x-force-features=on,+{one.feature}", host=path.setup)
            text = vulnerabilities(guest_snapshot(given), kernel)[verdict.file]
            assert set(one.says.split("; ")) <= set(text.split("; ")), (verdict.file, one)
            assert one.says not in str(verdict.text)


@pytest.mark.parametrize("cpu", ["EPYC-Milan", "EPYC", "qemu64", "host", "Icelake-Server"])
@pytest.mark.parametrize("name", ["spec_ctrl", "spec-ctrl", "ibrs", "ibpb", "stibp", "amd_ibpb"])
def test_what_is_there_for_spectre_v2_is_answered_with_the_guests_verdict_on_it(cpu: str, name: str) -> None:
    lines = first_lines(MILAN, cpu, name)
    said = next(line for line in lines[:2] if "spectre_v2" in line)
    assert said.startswith("Partly, the guest protects itself against spectre_v2: Mitigation: Retpolines; ")
    assert 'lacks ibpb (the host\'s processor does not report it), with which its kernel would say "IBPB: conditional".' in said


@pytest.mark.parametrize(
    ("name", "file"),
    [("ssbd", "spec_store_bypass"), ("virt_ssbd", "spec_store_bypass"), ("md_clear", "mds"), ("rdctl-no", "meltdown"), ("pti", "meltdown")],
)
def test_so_is_what_is_there_for_its_kin(name: str, file: str) -> None:
    assert any(
        line.startswith(("Yes, ", "Partly, ", "No, ", "The guest needs no")) and file in line
        for line in first_lines(SAPPHIRE, "qemu64", name)[:3]
    )


def test_a_feature_of_other_use_is_told_nothing_of_them() -> None:
    assert not served(find("avx2"))
    assert first_lines(SAPPHIRE, "host", "avx2")[1].endswith(", -cpu host")


def test_a_vulnerability_is_answered_yes_partly_or_no_first() -> None:
    for machine, cpu, file, answer in (
        (
            SAPPHIRE,
            "Skylake-Server-v4",
            "spectre_v2",
            "Yes, the guest protects itself against spectre_v2: Mitigation: IBRS; IBPB: conditional; ",
        ),
        (SAPPHIRE, "Haswell-v1", "spectre_v2", "Partly, the guest protects itself against spectre_v2: Mitigation: Retpolines; "),
        (SAPPHIRE, "Haswell-v1", "spec_store_bypass", "No, the guest does not protect itself against spec_store_bypass: Vulnerable. "),
        (SAPPHIRE, "host", "meltdown", "The guest needs no protection against meltdown: Not affected. "),
        (
            SAPPHIRE,
            "Skylake-Server-v4",
            "gather_data_sampling",
            "The guest cannot know whether it is protected against gather_data_sampling, since that is up to the host's microcode, ",
        ),
    ):
        assert first_lines(machine, cpu, file)[0].startswith(answer)


def test_what_helps_gives_the_guest_what_it_lacks() -> None:
    found = explain(find("spectre_v2"), guest(SAPPHIRE, "Haswell-v1", smp="1"))
    assert found.sysfs is not None
    assert [(one.feature, one.says) for one in found.sysfs.missing] == [("spec-ctrl", "IBPB: conditional; IBRS_FW")]
    assert found.remedy == "name it with +spec-ctrl, or choose Haswell-v3, or take -cpu host"
    for cpu in ("Haswell-v1,+spec-ctrl", "Haswell-v3"):
        better = explain(find("spectre_v2"), guest(SAPPHIRE, cpu, smp="1"))
        assert better.sysfs is not None
        assert better.sysfs.state == "mitigated"
        assert not better.sysfs.missing
    by_hardware = explain(find("spectre_v2"), guest(MILAN, "EPYC-Milan")).remedy
    assert by_hardware == "update the host's microcode, or run the guest on a processor with what is missing"


def test_under_a_vulnerability_stand_the_bits_on_which_it_hangs() -> None:
    found = explain(find("spectre_v2"), guest(SAPPHIRE, "Haswell-v1"))
    rows = {part.feature.name: part.stages for part in found.sources}
    assert {"spec-ctrl", "stibp"} <= set(rows)
    assert "ibpb" not in rows, "neither the processor nor the guest has AMD's bit, and an Intel guest needs none"
    for part in found.sources:
        assert part.verdict == explain(part.feature, found.path).verdict


def test_the_verdict_is_that_of_the_guests_own_kernel() -> None:
    path = guest(SAPPHIRE, "Skylake-Server-v4")
    for release in ("5.10", "6.1", "7.3"):
        own = replace(path, guest_kernel=linux(release))
        found = explain(find("spectre_v2"), own)
        assert found.sysfs is not None
        assert found.sysfs.guest is not None
        assert found.sysfs.guest.text == vulnerabilities(guest_snapshot(path), release)["spectre_v2"]
        assert found.sysfs.kernel == release
        assert stakes(explain(as_printed("ibrs", release), own).serves)[0].startswith(found.sysfs.answer)


def test_the_head_says_which_the_guests_kernel_is() -> None:
    host = ("--host", str(captures.capture(MILAN)), "--cpu", "EPYC-Milan", "--qemu", "11.1")
    by_default = vcpuid("explain", "spectre_v2", *host).stdout
    assert ", guest kernel: the host's, Linux 6.12, -cpu " in by_default
    chosen = vcpuid("explain", "spectre_v2", "--guest-kernel", "5.10", *host).stdout
    assert ", guest kernel: Linux 5.10, -cpu " in chosen
    assert "guest kernel" not in vcpuid("explain", "avx2", *host).stdout


def test_many_vulnerabilities_that_hang_on_a_feature_are_summed_up() -> None:
    lines = first_lines(SAPPHIRE, "Skylake-Server-v4", "arch-capabilities")
    assert lines[1].startswith("The guest does not protect itself against mds, mmio_stale_data; ")
    assert "protects itself against spectre_v2, meltdown, " in lines[1]


ROME = "kvm-amd.EPYC-Rome-v4@6.12"


@pytest.mark.parametrize(
    ("machine", "cpu", "file", "host"),
    [
        (SKYLAKE, "Haswell", "retbleed", "Vulnerable"),
        (SKYLAKE, "Haswell", "gather_data_sampling", "Vulnerable: No microcode"),
        (ROME, "EPYC-Milan", "retbleed", "Mitigation: untrained return thunk; SMT disabled"),
        (ROME, "qemu64", "spec_store_bypass", "Mitigation: Speculative Store Bypass disabled via prctl"),
    ],
)
def test_a_guest_that_is_shown_another_processor_is_not_assured_of_what_its_host_suffers_from(
    machine: str, cpu: str, file: str, host: str
) -> None:
    bug = bug_of(file)
    assert bug is not None
    found = explain(bug, guest(machine, cpu, smp="1"))
    assert found.sysfs is not None
    assert found.sysfs.guest is not None
    assert (found.sysfs.guest.text, found.sysfs.state, found.sysfs.guest.host) == ("Not affected", "unaware", host)
    assert found.verdict.startswith(f"No, the guest does not protect itself against {file}: its kernel takes itself for not affected ")
    assert found.verdict.endswith(f"for it is shown another processor than the host's, which is affected. The host's kernel says, by its "
                                  f"defaults: {host}.")  # fmt: skip
    assert found.remedy == "take -cpu host, or a model of the host's generation"
    assert not found.answered
    named, _ = told_inside(found.path)
    assert file in named.named("unaware")
    assert not named.protected
    shown, _ = told_inside(guest(machine, "host", smp="1"))
    assert file not in shown.named("unaware"), "what is advised helps"


def test_so_it_is_where_a_feature_is_asked_for_on_which_that_hangs() -> None:
    for machine, cpu in ((SKYLAKE, "Haswell"), (ROME, "EPYC-Milan")):
        text = "\n".join(first_lines(machine, cpu, "spec_ctrl"))
        assert "The guest takes itself wrongly for not affected by retbleed, for it is shown another processor than the host's." in text
        assert "What you can do: take -cpu host, or a model of the host's generation" in text


def test_where_the_host_is_not_affected_either_or_it_is_about_the_host_alone_none_is_needed() -> None:
    assert first_lines(MILAN, "qemu64", "retbleed")[0].startswith("The guest needs no protection against retbleed: Not affected. ")
    for file in ("vmscape", "itlb_multihit"):
        line = first_lines(SKYLAKE, "host", file)[0]
        assert line.startswith(f"The guest needs no protection against {file}, which is for the host to see to: Not affected. ")


def test_where_it_is_not_told_whether_the_host_is_affected_it_is_not_told_of_the_guest() -> None:
    path = resolve(
        "EPYC-v1", host=read(captures.CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz"), stack=Stack(kernel="6.12", qemu="11.1")
    )
    found = explain(find("retbleed"), path)
    assert found.sysfs is not None
    assert (found.sysfs.state, found.answered) == ("not told", False)
    assert found.verdict.startswith("Whether the guest needs protection against retbleed is not told: its kernel takes itself for not ")


def test_what_a_host_says_by_rules_is_said_to_be_so() -> None:
    found = explain(find("spectre_v2"), guest(SKYLAKE, "Haswell"))
    assert "The host's kernel says, by its defaults: Mitigation: Retpolines; " in found.verdict
    assert [one.otherwise for one in found.assumes] == ["mitigations=off"]
    shown = first_lines(SKYLAKE, "Haswell", "spectre_v2")
    assert any(line.startswith("Taken for granted: no mitigations= on the kernel's command line, as is usual; ") for line in shown)
    path = guest(SKYLAKE, "Haswell")
    seen = replace(path.setup.host, cpuinfo={**path.setup.host.cpuinfo, "vulnerability_spectre_v2": "Mitigation: IBRS"})
    told = explain(find("spectre_v2"), replace(path, setup=path.setup.with_host(seen))).verdict
    assert told.endswith("The host's kernel says: Mitigation: IBRS.")


@pytest.mark.parametrize("name", ["spec_ctrl", "ibrs", "spectre_v2"])
def test_what_helps_and_the_exit_status_are_the_same_by_whichever_name(name: str) -> None:
    done = vcpuid("explain", name, "--host", str(captures.capture(SKYLAKE)), "--cpu", "Haswell", "--qemu", "11.1")
    assert "Partly, " in done.stdout
    assert "What you can do: update the host's microcode, or run the guest on a processor with what is missing" in done.stdout
    assert "choose a CPU without it" not in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("cpu", ["host", "qemu64", "EPYC"])
def test_no_cpu_without_what_protects_a_guest_is_advised(cpu: str) -> None:
    path = guest(SKYLAKE, cpu)
    assert explain(find("spec-ctrl"), path).remedy == "update the host's microcode, or run the guest on a processor with what is missing"


def test_what_a_guests_kernel_cannot_know_has_a_reason_and_a_remedy() -> None:
    found = explain(find("mmio_stale_data"), guest(SKYLAKE, "qemu64"))
    assert "mmio_stale_data, since its kernel does not know the processor that it is shown: Unknown: No mitigations." in found.verdict
    assert found.remedy == "take -cpu host, or a model of the host's generation"
