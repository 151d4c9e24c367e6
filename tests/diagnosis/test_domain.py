"""diagnose with --domain: the definition that the error is about leads to the -cpu, as in explain and check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import captures
from support.command import vcpuid

SKYLAKE = str(captures.capture("kvm-intel.corei7_skylake_x@6.12"))
RTM = "error: operation failed: guest CPU doesn't match specification: missing features: rtm"
DOMAIN = """<domain type='kvm'>
  <name>d</name><memory>1048576</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <cpu mode='custom' match='exact' check='{check}'><model>Skylake-Server</model></cpu>
</domain>
"""


def asked(tmp_path: Path, check: str, *more: str) -> tuple[dict[str, Any], str]:
    (tmp_path / "guest.xml").write_text(DOMAIN.format(check=check), encoding="utf-8")
    done = vcpuid("diagnose", RTM, "--domain", str(tmp_path / "guest.xml"), "--libvirt", "11.3", "--qemu", "10.0", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_domain_leads_to_a_cpu_and_its_proposal(tmp_path: Path) -> None:
    told, _ = asked(tmp_path, "none", "--host", SKYLAKE, "--format", "json")
    assert told["cpu"].startswith("Skylake-Server")
    assert told["findings"][0]["fate"]["visible"] is False
    assert any(remark.startswith("libvirt 11.3 starts QEMU with") for remark in told["remarks"])
    assert "rtm=off" in told["proposal"] or "-rtm" in told["proposal"]


def test_a_domain_that_libvirt_does_not_start_leaves_the_features_fate_on_the_host(tmp_path: Path) -> None:
    told, said = asked(tmp_path, "full", "--host", SKYLAKE, "--format", "json")
    assert told["findings"][0]["fate"] is not None
    told, said = asked(tmp_path, "partial", "--host", SKYLAKE, "--format", "json")
    assert "libvirt 11.3" in said
    assert told["cpu"] is None
    assert told["findings"][0]["fate"]["chain"][-1]["party"] == "silicon"


def test_without_a_host_a_domain_has_no_effect(tmp_path: Path) -> None:
    told, said = asked(tmp_path, "none", "--format", "json")
    assert "--domain has no effect" in said
    assert told["findings"][0]["fate"] is None
    done = vcpuid("diagnose", RTM, "--cpu", "host", "--domain", str(tmp_path / "guest.xml"))
    assert done.returncode == 2
