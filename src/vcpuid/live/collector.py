"""The stand-alone collector's command line.

tools/build_collector.py makes one file of this module and of all that it needs, for machines without vcpuid:
data/collector/vcpuid_collect.py.txt.
"""

from __future__ import annotations

import argparse
import sys

from vcpuid.errors import VcpuidError
from vcpuid.formats.lines import format_snapshot
from vcpuid.live.observe import observe


def main() -> int:
    """Write a snapshot of this machine to standard output; returns the exit status, as vcpuid's own commands do."""
    parser = argparse.ArgumentParser(
        prog="vcpuid_collect",
        description="Write what this machine tells of its CPU and its KVM to standard output, as a snapshot for vcpuid.",
    )
    parser.add_argument("--cpu", type=int, metavar="N", help="the CPU whose answers are taken (the first one allowed)")
    try:
        snapshot = observe(parser.parse_args().cpu)
        text = "".join(line + "\n" for line in format_snapshot(snapshot))
    except VcpuidError as error:
        print("vcpuid_collect:", error, file=sys.stderr)
        return error.exit_status
    for note in snapshot.notes:
        print("vcpuid_collect:", note, file=sys.stderr)
    sys.stdout.buffer.write(text.encode())
    return 0
