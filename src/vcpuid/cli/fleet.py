"""vcpuid fleet: one CPU for many hosts, who costs what, what moves where."""

from __future__ import annotations

import click

from vcpuid.cli import fleet_baseline, fleet_collect, fleet_export, fleet_moves, fleet_store


@click.group(name="fleet")
def command() -> None:
    """Find one CPU for many hosts: what runs where, and what it costs.

    STORE is a folder of snapshots, where a file is a host and a folder within it a cluster: `fleet collect` fills it, or you put the files
    there. Or it is a file NAME.duckdb or a folder NAME.parquet, which keep the history (pip install 'vcpuid[fleet]'): `fleet collect`
    fills it, and `fleet add` with snapshots that you have.
    """


for _verb in (
    fleet_collect.command,
    fleet_store.add,
    fleet_store.remove,
    fleet_store.copy,
    fleet_store.classes,
    fleet_store.history,
    fleet_store.changes,
    fleet_baseline.baseline,
    fleet_baseline.models,
    fleet_baseline.blame,
    fleet_export.export,
    fleet_moves.migrate,
    fleet_moves.drift,
):
    command.add_command(_verb)
