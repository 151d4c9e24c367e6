"""Files once more, led by coverage: atheris keeps what reaches new code and goes on from there. It is the extra `fuzz`."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FunctionType, ModuleType

from fuzz.seeds import texts
from fuzz.target import Case, Target
from fuzz.targets import readers

_INSTRUMENTED = ("vcpuid.formats", "vcpuid.sources")
_LONGEST = 20_000
"""Bytes of an input: of short ones there are more."""


def missing() -> str | None:
    """Say that atheris is not there; it has wheels for some releases of Python on Linux."""
    return None if importlib.util.find_spec("atheris") else "atheris is not installed: pip install -e '.[fuzz]'"


def make(random: Random) -> Case:
    """Give a text to start from; all else atheris makes."""
    forms = texts()
    return {"text": random.choice(forms[random.choice(list(forms))]).encode()[:_LONGEST].decode("latin-1")}


def fuzz(seconds: float, seed: int, take: Callable[[Case], None]) -> None:
    """Let atheris make inputs. It ends this process when its time is up."""
    import atheris

    for function in _functions():
        atheris.instrument_func(function)
    with tempfile.TemporaryDirectory(prefix="vcpuid-fuzz-") as corpus:
        for number, text in enumerate(text for of in texts().values() for text in of if len(text) <= _LONGEST):
            Path(corpus, str(number)).write_text(text, encoding="utf-8")
        # Without a timeout of its own: that would take the signal by which an input is limited here.
        options = (
            f"max_total_time={int(seconds) or 1}",
            f"seed={seed % (1 << 31) or 1}",
            f"max_len={_LONGEST}",
            "timeout=0",
            "verbosity=0",
        )
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libFuzzer says of its own work
        atheris.Setup(["fuzz", *(f"-{option}" for option in options), corpus], lambda data: take({"text": data.decode("latin-1")}))
        atheris.Fuzz()


def _functions() -> Iterator[FunctionType]:
    """Give the functions of the readers' modules, methods among them."""
    for name in _INSTRUMENTED:  # some of them are imported when they are needed, too late to be instrumented
        for found in pkgutil.iter_modules(getattr(importlib.import_module(name), "__path__", ()), f"{name}."):
            importlib.import_module(found.name)
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name.startswith(_INSTRUMENTED):
            for value in list(vars(module).values()):
                if getattr(value, "__module__", None) != name:
                    continue
                for inner in vars(value).values() if isinstance(value, type) else (value,):
                    function = getattr(inner, "fget", None) or getattr(inner, "__func__", None) or inner
                    if isinstance(function, FunctionType):
                        yield function


TARGET = Target("coverage", "files, led by coverage", make, readers.check, missing, share=1.0, fuzz=fuzz)
