"""What the help of each verb shows: two commands, with what they are for. Tests run them.

The files that they name are a host's snapshot and others' (host.txt, other.txt, guest.txt), a table for KVM_SET_CPUID2 (table.txt), XML of
libvirt's (guest.xml, cpu.xml), a log (guest.log), a folder of snapshots (hosts) and a store made of it (hosts.duckdb).
"""

from __future__ import annotations

from typing import NamedTuple

import click


class Example(NamedTuple):
    """A command, and what it is for. `needs` is what a machine must have: x86, kvm, qemu, vmm, root, ssh, duckdb or browser."""

    about: str
    command: str
    needs: str = ""


def of(context: click.Context) -> tuple[Example, ...]:
    """Give the examples of the verb that a context is of."""
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return EXAMPLES.get(" ".join(words), ())


def lacking(said: str) -> click.UsageError:
    """Make the error of a verb that is not told what it is about, with its first example."""
    context = click.get_current_context()
    first = next((f" (example: {example.command})" for example in of(context)), "")
    return click.UsageError(f"{said}{first}", context)


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "diagnose": (
        Example("What an error says", "vcpuid diagnose 'missing features: hle,rtm'"),
        Example("A whole log, with the host that it is of", "vcpuid diagnose guest.log --cpu Skylake-Server --host host.txt"),
    ),
    "explain": (
        Example("Why the guest has no AVX-512", "vcpuid explain avx512f --cpu Haswell --host host.txt"),
        Example("Whether it is protected against Spectre v2", "vcpuid explain spec_ctrl --cpu Haswell --host host.txt"),
    ),
    "guest": (
        Example("What a guest of this machine sees", "vcpuid guest --cpu host", "kvm"),
        Example("What one sees on another host", "vcpuid guest host.txt --cpu Haswell --qemu 11.1"),
    ),
    "explore": (
        Example("A page of the whole path, in the browser", "vcpuid explore", "browser"),
        Example("The same as a file to give away", "vcpuid explore host.txt --cpu Haswell --save report.html"),
    ),
    "check": (
        Example("Whether a model runs on a host", "vcpuid check EPYC-Milan host.txt"),
        Example("The same in a script, by the exit status", "vcpuid check Haswell-noTSX host.txt --qemu 11.1 --quiet"),
    ),
    "diff": (
        Example("What a snapshot taken in a guest shows otherwise", "vcpuid diff host.txt guest.txt"),
        Example("Two dumps, field by field", "vcpuid diff host.txt other.txt --by field"),
    ),
    "drift": (
        Example("What a newer QEMU changes", "vcpuid drift host.txt --from qemu=7.2 --to qemu=10.0"),
        Example("What a newer kernel changes for one CPU", "vcpuid drift host.txt --cpu Haswell --from kernel=6.1 --to kernel=6.12"),
    ),
    "fleet add": (
        Example("Keep a folder of snapshots in a store", "vcpuid fleet add hosts.duckdb hosts", "duckdb"),
        Example("Add those of another day", "vcpuid fleet add hosts.duckdb hosts --seen 2026-11-29", "duckdb"),
    ),
    "fleet baseline": (
        Example("One -cpu for all hosts of a folder", "vcpuid fleet baseline hosts"),
        Example("For one cluster, in libvirt's words", "vcpuid fleet baseline hosts --cluster rack1 --for libvirt"),
    ),
    "fleet blame": (
        Example("Which hosts cost which features", "vcpuid fleet blame hosts"),
        Example("For one cluster, as CSV", "vcpuid fleet blame hosts --cluster rack1 -o csv"),
    ),
    "fleet changes": (
        Example("What has changed since a day", "vcpuid fleet changes hosts.duckdb --since 2026-11-01", "duckdb"),
        Example("Between two days", "vcpuid fleet changes hosts.duckdb --since 2026-11-01 --until 2026-11-29", "duckdb"),
    ),
    "fleet classes": (
        Example("Which hosts are alike", "vcpuid fleet classes hosts"),
        Example("Of one cluster, as JSON", "vcpuid fleet classes hosts --cluster rack2 -o json"),
    ),
    "fleet collect": (
        Example("Ask three hosts by ssh", "vcpuid fleet collect hosts root@node1 root@node2 node3", "ssh"),
        Example("Those of an inventory of Ansible's", "vcpuid fleet collect hosts --inventory inventory.ini --sudo", "ssh"),
    ),
    "fleet copy": (
        Example("A store as Parquet files", "vcpuid fleet copy hosts.duckdb hosts.parquet", "duckdb"),
        Example("A copy to keep", "vcpuid fleet copy hosts.duckdb kept.duckdb", "duckdb"),
    ),
    "fleet drift": (
        Example("What a newer kernel changes on every host", "vcpuid fleet drift hosts --cpu EPYC-Milan --to kernel=7.3"),
        Example("What a newer QEMU changes", "vcpuid fleet drift hosts --cluster rack1 --from qemu=7.2 --to qemu=10.0"),
    ),
    "fleet export": (
        Example("The baseline as libvirt's XML", "vcpuid fleet export hosts --cluster rack1 --to libvirt"),
        Example("As a CPU template of Firecracker's", "vcpuid fleet export hosts --cluster rack1 --to firecracker --output template.json"),
    ),
    "fleet history": (
        Example("What was seen of a host", "vcpuid fleet history hosts.duckdb node1", "duckdb"),
        Example("The same as JSON lines", "vcpuid fleet history hosts.duckdb node1 -o jsonl", "duckdb"),
    ),
    "fleet migrate": (
        Example("Whether a guest moves between two hosts", "vcpuid fleet migrate hosts node1 node3 --cpu Skylake-Server-v1"),
        Example("Which hosts it moves among", "vcpuid fleet migrate hosts --cpu Skylake-Server-v1,-pku"),
    ),
    "fleet models": (
        Example("Which of QEMU's models run where", "vcpuid fleet models hosts"),
        Example("On one cluster, with an older QEMU", "vcpuid fleet models hosts --cluster rack1 --qemu 7.2"),
    ),
    "fleet remove": (
        Example("A host that is gone", "vcpuid fleet remove hosts.duckdb node5", "duckdb"),
        Example("One that never was a member", "vcpuid fleet remove hosts.duckdb node4 --forget", "duckdb"),
    ),
    "probe": (
        Example("Whether AVX2 works here and in a guest", "vcpuid probe avx2", "kvm"),
        Example("Every instruction, in this process alone", "vcpuid probe --no-guest", "x86"),
    ),
    "trace": (
        Example("Which guests execute CPUID now", "vcpuid trace --seconds 10", "root"),
        Example("How often a program does", "vcpuid trace --step -- true", "x86"),
    ),
    "record": (
        Example("What a VMM says to KVM", "vcpuid record -- qemu-system-x86_64 -accel kvm -cpu host -display none", "vmm"),
        Example("What a running guest's vCPUs keep", "vcpuid record --vm mail --output mail.jsonl.gz", "root"),
    ),
    "worth": (
        Example("What a guest's flags are worth", "vcpuid worth --cpu Haswell --host host.txt"),
        Example("With one glibc, of a snapshot", "vcpuid worth guest.txt --glibc 2.41"),
    ),
    "hyperv": (
        Example("What Windows would find", "vcpuid hyperv --cpu host,hv-relaxed,hv-vpindex --host host.txt"),
        Example("The leaves, field by field", "vcpuid hyperv --fields --cpu host,hv-passthrough --host host.txt"),
    ),
    "rules": (
        Example("The rules that speak of nested", "vcpuid rules nested"),
        Example("One rule", "vcpuid rules kvm.vmx.nested"),
    ),
    "names": (
        Example("How everybody spells a feature", "vcpuid names spec_ctrl"),
        Example("All bits of a register", "vcpuid names 7.0.ebx"),
    ),
    "decode": (
        Example("All that a dump says", "vcpuid decode host.txt"),
        Example("One leaf, every field of it", "vcpuid decode host.txt 7.0 --full"),
    ),
    "collect": (
        Example("A snapshot of this machine", "vcpuid collect > host.txt", "x86"),
        Example("The collector, for a host without vcpuid", "vcpuid collect --script > collect.py"),
    ),
    "convert": (
        Example("A snapshot as the cpuid program has it", "vcpuid convert host.txt --to cpuid"),
        Example("Any dump as JSON, into a file", "vcpuid convert host.txt --to json --output host.json"),
    ),
    "help": (
        Example("The help of a verb", "vcpuid help explain"),
        Example("Of one in a group", "vcpuid help qemu models"),
    ),
    "version": (
        Example("Which vcpuid this is", "vcpuid version"),
        Example("The same", "vcpuid --version"),
    ),
    "completion": (
        Example("Turn it on in bash", 'eval "$(vcpuid completion bash)"'),
        Example("In fish", "vcpuid completion fish | source"),
    ),
    "kvm supported": (
        Example("What KVM offers on a host", "vcpuid kvm supported host.txt"),
        Example("Whether its KVM is the stock one", "vcpuid kvm supported host.txt --check"),
    ),
    "kvm emulated": (
        Example("What KVM would emulate on a host", "vcpuid kvm emulated host.txt"),
        Example("With another kernel", "vcpuid kvm emulated host.txt --kernel 6.1"),
    ),
    "kvm set": (
        Example("What a vCPU keeps of a table", "vcpuid kvm set table.txt"),
        Example("With CR4.OSXSAVE set, as a snapshot's lines", "vcpuid kvm set table.txt --cr4 0x40000 -o lines"),
    ),
    "kvm lookup": (
        Example("What CPUID returns for a leaf", "vcpuid kvm lookup table.txt 7"),
        Example("For a sub-leaf and one beyond the last", "vcpuid kvm lookup table.txt d.1 77777777"),
    ),
    "kvm run": (
        Example("What a real guest sees of a leaf", "vcpuid kvm run table.txt 7", "kvm"),
        Example("What one CPUID costs there", "vcpuid kvm run table.txt --time", "kvm"),
    ),
    "qemu models": (
        Example("Which models run on a host", "vcpuid qemu models host.txt --qemu 11.1"),
        Example("The names of those that run", "vcpuid qemu models host.txt -o jsonl"),
    ),
    "qemu expand": (
        Example("Every property of a CPU on a host", "vcpuid qemu expand Haswell host.txt"),
        Example("The same, all by name", "vcpuid qemu expand --cpu Haswell --host host.txt --qemu 11.1"),
    ),
    "qemu table": (
        Example("What QEMU hands to KVM", "vcpuid qemu table Haswell host.txt"),
        Example("To the second of two vCPUs", "vcpuid qemu table Haswell host.txt --smp 2 --vcpu 1"),
    ),
    "qemu import": (
        Example("A QEMU of your own", "vcpuid qemu import /usr/bin/qemu-system-x86_64", "qemu"),
        Example("Under a name", "vcpuid qemu import /usr/bin/qemu-system-x86_64 --label mine", "qemu"),
    ),
    "libvirt capabilities": (
        Example("What virsh capabilities says of a host's CPU", "vcpuid libvirt capabilities host.txt"),
        Example("With an older libvirt and QEMU", "vcpuid libvirt capabilities host.txt --libvirt 9.0 --qemu 7.2"),
    ),
    "libvirt domcapabilities": (
        Example("Which models a domain can have", "vcpuid libvirt domcapabilities host.txt"),
        Example("With all features of host-model", "vcpuid libvirt domcapabilities host.txt --expand-cpu-features --libvirt 12.9"),
    ),
    "libvirt models": (
        Example("The models that libvirt knows", "vcpuid libvirt models host.txt"),
        Example("Those of an older one", "vcpuid libvirt models host.txt --libvirt 9.0"),
    ),
    "libvirt argv": (
        Example("The -cpu of a domain", "vcpuid libvirt argv guest.xml host.txt"),
        Example("The same by name, as JSON", "vcpuid libvirt argv guest.xml --host host.txt -o json"),
    ),
    "libvirt start": (
        Example("Whether a domain starts, and its <cpu> then", "vcpuid libvirt start guest.xml host.txt"),
        Example("That <cpu> for a migration", "vcpuid libvirt start guest.xml host.txt --migratable"),
    ),
    "libvirt compare": (
        Example("A <cpu> compared with a host", "vcpuid libvirt compare cpu.xml host.txt"),
        Example("With the features in which it fails", "vcpuid libvirt compare cpu.xml host.txt --hypervisor --error"),
    ),
    "libvirt baseline": (
        Example("The CPU that several <cpu>s have in common", "vcpuid libvirt baseline cpu.xml host.txt"),
        Example("With its features, as QEMU has them", "vcpuid libvirt baseline cpu.xml host.txt --hypervisor --features"),
    ),
    "libvirt migrate": (
        Example("Whether a domain moves from one host to another", "vcpuid libvirt migrate guest.xml host.txt other.txt"),
        Example("To one with a newer libvirt", "vcpuid libvirt migrate guest.xml host.txt host.txt --libvirt 9.0 --to-libvirt 12.9"),
    ),
    "linux flags": (
        Example("The flags of /proc/cpuinfo on a host", "vcpuid linux flags host.txt"),
        Example("Those inside a guest of it", "vcpuid linux flags host.txt --guest --cpu Haswell"),
    ),
    "linux vulnerabilities": (
        Example("What a host's kernel says of Spectre and its kin", "vcpuid linux vulnerabilities host.txt"),
        Example("What the kernel of a guest of it says", "vcpuid linux vulnerabilities host.txt --guest --cpu Haswell"),
    ),
}
"""By the verb's words."""
