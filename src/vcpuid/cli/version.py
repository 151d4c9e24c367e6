"""vcpuid version: what --version prints."""

from __future__ import annotations

import click


@click.command(name="version")
def command() -> None:
    """Print vcpuid's version."""
    import vcpuid

    print(f"vcpuid {vcpuid.__version__}")
