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

from vcpuid.cli import habits, safe, streams
from vcpuid.cli.lazy import LazyGroup, Unforeseen
from vcpuid.errors import RefusedError, RemarkWarning, VcpuidError, tell_fault

VERBS = {
    "diagnose": "Say what an error or a log means for CPU features; what helps.",
    "explain": "Show where a feature is kept, dropped or added on its way to the guest.",
    "guest": "Show the guest's CPU as a whole: what it has, loses and gains.",
    "explore": "Show the whole path on a page in a browser, or save it.",
    "check": "Check whether CPU runs on HOST: what is missing, what helps.",
    "diff": "Compare a guest's CPU with its host's, or two hosts.",
    "drift": "Show what an upgrade changes in a guest: kernel, QEMU, libvirt.",
    "fleet": "Find one CPU for many hosts: what runs where, and what it costs.",
    "probe": "Run instructions, here and in a guest, and compare with CPUID.",
    "trace": "Count the CPUIDs that running guests, or a program, execute.",
    "record": "Record what a VMM says to KVM about CPUID, or what a guest has.",
    "worth": "Show what a guest's CPU is worth to its software.",
    "hyperv": "Show which Hyper-V enlightenments Windows finds and lacks.",
    "rules": "List the rules that change CPUID bits, or explain one.",
    "names": "Show all spellings of a feature, or all features of a word.",
    "decode": "Decode CPUID: every field with its name, value and meaning.",
    "collect": "Write a snapshot of this machine's CPU and KVM.",
    "convert": "Convert a CPU's description to another form; say what is lost.",
    "help": "Show the help of a verb, or of all.",
    "version": "Print vcpuid's version.",
    "completion": "Print the completion script for bash, zsh or fish.",
    "kvm": "KVM's part: what it supports, keeps and answers.",
    "qemu": "QEMU's part: its CPU models, and the table that it gives to KVM.",
    "libvirt": "What virsh prints of a host and of a domain: libvirt's part.",
    "linux": "Linux's part: flags in /proc/cpuinfo, and vulnerabilities.",
}
"""The verbs in the order in which --help lists them, each with the first line of its own help."""


_TRACEBACK = "--traceback"
"""Taken wherever it stands: who adds it does so behind a command line that has failed."""


_BEGIN = """\
vcpuid shows which CPU an x86 guest sees, and why. To begin with:

  vcpuid guest --cpu host          the CPU that a guest gets on this machine
  vcpuid check EPYC-Milan          whether a -cpu runs here, and what it would lack
  vcpuid explain avx512f           what became of one feature, and why

vcpuid --help lists all verbs, vcpuid help VERB explains one, with examples.
"""
"""What vcpuid prints where nothing is asked."""


@click.group(
    cls=LazyGroup, verbs=VERBS, package="vcpuid.cli", invoke_without_command=True, subcommand_metavar=habits.VERBS_BELOW,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)  # fmt: skip
@click.option(_TRACEBACK, is_flag=True, expose_value=False, help="Show where vcpuid failed, if it does. It may stand anywhere.")
@click.version_option(package_name="vcpuid", prog_name="vcpuid", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which CPU does this guest see, and why?

    HOST is a snapshot file (vcpuid collect writes one) or another program's dump, '-' for standard input, 'live' for this machine's
    processor, or 'kvm' for processor and KVM. Without one, this machine's is taken.
    """
    if context.invoked_subcommand is None:
        print(_BEGIN, end="")
        context.exit(2)


cli.params.append(habits.no_color_option())


_SAID: set[str] = set()
"""What was said of this run's answer."""


def _say(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None) -> None:
    """Print what a public function has to say of its answer, once, as verbs print their remarks."""
    if str(message) not in _SAID:
        _SAID.add(str(message))
        streams.tell(str(message))


def main() -> None:
    """Run the command line; an error that vcpuid raises on purpose becomes one line on standard error and its exit status."""
    gc.set_threshold(400_000)  # of what a verb makes, hardly anything outlives its last reference; to look for it takes time
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
        if isinstance(error, click.MissingParameter):  # which lays what may stand there out in lines of its own
            error = click.UsageError(" ".join(error.format_message().split()), error.ctx)
        error.message = safe.message(error.message)  # type: ignore[misc]  # final, and yet the one text that its forms share
        error.show()
        sys.exit(error.exit_code)
    except VcpuidError as error:
        hint = error.hint if isinstance(error, RefusedError) else None
        said = "; ".join(str(error).splitlines()) if isinstance(error, RefusedError) else str(error)
        streams.tell(said + (f" ({hint})" if hint else ""), error=True)
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
    streams.tell(line, error=True)
    return status


def _version() -> str:
    """Return vcpuid's own version, as far as that is to be had after a fault."""
    try:
        import vcpuid

        return vcpuid.__version__
    except Exception:
        return "of unknown version"
