"""The command line: one file a verb, each a thin shell over one public function.

Exit status: 0 yes, 1 no (a check that fails, or KVM or QEMU would refuse), 2 usage, 3 bad input, 4 the environment lacks something, a
place for the output among it (`streams`), 70 a fault of vcpuid itself; how a signal ends it is told in `vcpuid.__main__`. A reader that
goes before the end, as `head` does, changes none of them: where a verb answers with 0 or 1, that is its answer, read or not, in every
format.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings

import click

from vcpuid.cli import safe, streams
from vcpuid.cli.lazy import LazyGroup, Unforeseen
from vcpuid.errors import RefusedError, RemarkWarning, VcpuidError, tell_fault

VERBS = {
    "diagnose": "Tell what an error text or a log says of CPU features: which, who took them, why, and what to do.",
    "explain": "Show where a feature is kept, dropped or added on its way to the guest, why, and what you can do.",
    "guest": "Show the guest's CPU as a whole: flags gained and lost against the host, by party.",
    "explore": "Show the whole path on a page: every bit through all parties, live or as a file to give away.",
    "check": "Tell whether CPU runs on HOST with all that was asked, what is missing and why, and what in its table will hurt.",
    "diff": "Show what a guest's CPU has that its host's has not, and the reverse, each with the party that caused it.",
    "drift": "Show what an upgrade changes for a guest: features lost and gained between two stacks, with the party that decides.",
    "fleet": "Many hosts, one CPU: which -cpu runs on all, who costs what, what moves where.",
    "probe": "Try instructions, in this process and in a real guest, and hold what works against what CPUID shows.",
    "trace": "Count the CPUIDs that guests execute as they run, or those of a program: which leaves, from where, how often.",
    "record": "Record what a VMM says to KVM about CPUID, or what a running guest's vCPUs keep.",
    "worth": "Tell what a guest's flags are worth to its software: levels, string functions, crypto, clocks.",
    "hyperv": "Tell which Hyper-V enlightenments Windows finds, what each needs, and what it loses without.",
    "rules": "List the rules by which Linux, KVM and VMMs change bits, or explain one.",
    "names": "Give a feature's spellings, or all features of a word.",
    "decode": "Decode CPUID: every field of every leaf by name, with its value, unit and meaning.",
    "collect": "Write a snapshot of this machine's CPU and KVM.",
    "convert": "Write a CPU's description in another form, and say what that form cannot hold.",
    "completion": "Print the script that makes a shell complete vcpuid's verbs, options, features, CPU models and hosts.",
    "kvm": "KVM's part: what it supports, keeps and answers.",
    "qemu": "QEMU's part: models and the table for KVM_SET_CPUID2.",
    "libvirt": "What libvirt makes of a host and of a domain, as virsh prints it, errors included.",
    "linux": "Linux's part: the flags of /proc/cpuinfo, and what sysfs says of vulnerabilities.",
}
"""The verbs in the order in which --help lists them, each with the first line of its own help."""


_TRACEBACK = "--traceback"
"""Taken wherever it stands: who adds it does so behind a command line that has failed."""


@click.group(
    cls=LazyGroup, verbs=VERBS, package="vcpuid.cli", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.option(_TRACEBACK, is_flag=True, expose_value=False, help="Show where vcpuid failed, if it does. It may stand anywhere.")
@click.version_option(package_name="vcpuid", prog_name="vcpuid", message="%(prog)s %(version)s")
def cli() -> None:
    """Which CPU does this guest see, and why?

    HOST is a snapshot file (vcpuid collect writes one) or another program's dump, '-' for standard input, 'live' for this machine's
    processor, or 'kvm' for processor and KVM. Without one, this machine's is taken.
    """


_SAID: set[str] = set()
"""What was said of this run's answer."""


def _say(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None) -> None:
    """Print what a public function has to say of its answer, once, as verbs print their remarks."""
    if str(message) not in _SAID:
        _SAID.add(str(message))
        streams.tell(str(message))


def main() -> None:
    """Run the command line; an error that vcpuid raises on purpose becomes one line on standard error and its exit status."""
    gc.set_threshold(100_000)  # of what a verb makes, hardly anything outlives its last reference; to look for it takes time
    if "_VCPUID_COMPLETE" in os.environ:
        from vcpuid.cli.completion import register

        register()
    streams.guard()
    _SAID.clear()
    warnings.simplefilter("always", RemarkWarning)
    warnings.showwarning = _say
    arguments = [argument for argument in sys.argv[1:] if argument != _TRACEBACK]
    try:
        sys.exit(_answer(arguments))
    except click.ClickException as error:
        error.message = safe.message(error.message)  # type: ignore[misc]  # final, and yet the one text that its forms share
        error.show()
        sys.exit(error.exit_code)
    except VcpuidError as error:
        hint = error.hint if isinstance(error, RefusedError) else None
        said = "; ".join(str(error).splitlines()) if isinstance(error, RefusedError) else str(error)
        streams.tell(said + (f" ({hint})" if hint else ""))
        sys.exit(error.exit_status)
    except click.exceptions.Abort:  # click's word for a Ctrl-C, in a program of somebody's own: `vcpuid.__main__` hears it before click
        raise KeyboardInterrupt from None
    except Exception as error:
        sys.exit(_fault(error.__cause__ if isinstance(error, Unforeseen) and error.__cause__ else error))


def _answer(arguments: list[str]) -> int:
    """Run a verb, and write all of its output before an error is told; what a signal ends has no more to say."""
    try:
        status: int = cli.main(arguments, standalone_mode=False) or 0
    except (Exception, SystemExit):
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _fault(fault: BaseException) -> int:
    """Tell of an error that nobody foresaw, and return the exit status."""
    asked = _TRACEBACK in sys.argv
    status, line = tell_fault(fault, f"vcpuid {_version()} itself", "" if asked else f", {_TRACEBACK} shows the rest")
    if asked:
        from traceback import print_exception

        print_exception(fault)
    streams.tell(line)
    return status


def _version() -> str:
    """Return vcpuid's own version, as far as that is to be had after a fault."""
    try:
        import vcpuid

        return vcpuid.__version__
    except Exception:
        return "of unknown version"
