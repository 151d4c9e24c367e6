"""Where libvirt would look at what QEMU made so as to refuse a guest is known before QEMU is asked."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid.errors import LibvirtError, QemuError
from vcpuid.libvirt import connect
from vcpuid.libvirt.live import minds
from vcpuid.libvirt.request import start
from vcpuid.releases import LIBVIRTS
from vcpuid.setup import Setup

HOSTS = ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@6.12", "kvm-intel.core2_penryn_t9600@6.12")
FEATURES = {
    "": False,
    "<features><pvspinlock state='on'/></features>": True,
    "<features><hyperv mode='custom'><relaxed state='on'/><synic state='on'/><evmcs state='on'/></hyperv></features>": True,
}
CPUS = {
    "<cpu mode='host-model'/>": False,
    "<cpu mode='host-passthrough'/>": False,
    "<cpu mode='host-model' check='full'/>": True,
    "<cpu mode='custom' check='none'><model>Skylake-Server</model></cpu>": False,
    "<cpu mode='custom' check='full'><model>Skylake-Server</model></cpu>": True,
    "<cpu mode='custom' check='full'><model>EPYC</model></cpu>": True,
    "<cpu mode='custom' check='none'><model>qemu64</model><feature policy='require' name='invtsc'/></cpu>": True,
    "<cpu mode='custom' check='none'><model>EPYC</model><feature policy='force' name='avx512f'/></cpu>": False,
}
DOMAIN = (
    "<domain type='kvm'><name>a</name><memory>1048576</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>{features}{cpu}</domain>"
)


@pytest.mark.parametrize("release", LIBVIRTS)
def test_no_guest_is_refused_of_which_that_was_not_foreseen(release: str) -> None:
    refused = 0
    for name in HOSTS:
        libvirt = connect(Setup.of(host(name)), release)
        for features, looks in FEATURES.items():
            for cpu, checks in CPUS.items():
                try:
                    planned = libvirt.planned(start(DOMAIN.format(features=features, cpu=cpu)))
                except LibvirtError:
                    continue
                foreseen = minds(planned.domain, planned.cpu, libvirt.known)
                assert foreseen == (looks or checks)
                try:
                    libvirt.started_by(planned)
                except LibvirtError as error:
                    by_libvirt = not isinstance(error.__cause__, QemuError)
                    assert foreseen or not by_libvirt
                    refused += by_libvirt
    assert refused


def test_a_start_leaves_its_plan_as_it_was() -> None:
    libvirt = connect(Setup.of(host(HOSTS[0])), LIBVIRTS[-1])
    planned = libvirt.planned(start(DOMAIN.format(features="", cpu="<cpu mode='host-model'/>")))
    cpu, notes = planned.cpu.copy(), list(planned.journal.rulings)
    once, again = libvirt.started_by(planned), libvirt.started_by(planned)
    assert (planned.cpu, planned.journal.rulings) == (cpu, notes)
    assert once.live == again.live
    assert once.planned.journal.rulings == again.planned.journal.rulings
    assert len(once.planned.journal.rulings) > len(notes)
