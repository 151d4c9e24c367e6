"""A table that is drawn anew in place, on a screen of its own as `top` has it; the terminal is as before afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from vcpuid.cli.output import Sheet, colours, fitted
from vcpuid.cli.short import Cut
from vcpuid.cli.streams import styled


@contextmanager
def screen() -> Iterator[Callable[[Sheet], None]]:
    """Yield a function that shows a sheet: its head, and as many rows as there is room for."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with styled(sys.stdout):
        console = Console(highlight=False)
        with Live(console=console, screen=True, auto_refresh=False) as live:

            def show(sheet: Sheet) -> None:
                room = console.size.height - 1
                lines = fitted(replace(sheet, cut=Cut(room, rest="")), console.size.width, room, colours=colours())
                live.update(Text.from_ansi("\n".join(lines)), refresh=True)

            yield show
