"""The program, as `vcpuid` and as `python -m vcpuid`: how a signal ends it, from the first import to the interpreter's end.

SIGINT, SIGTERM and SIGHUP end it as they end a program that knows nothing of them: without a word and by the signal itself, so that a
shell tells 130, 143 or 129, and leaves the loop in which vcpuid ran. While a verb runs, what it has begun is undone first: children are
ended, half-written files taken away. A second signal waits for nothing. One that was ignored when vcpuid started stays so (nohup, a
shell's &). Nothing of this concerns who imports vcpuid.
"""

import gc
import os
import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal has come. Nobody catches it, so all that is under way is undone."""


def main() -> None:
    """Run the command line."""
    ending = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    came: list[int] = []

    def as_without_us() -> None:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)

    def undo(number: int, _frame: object) -> None:
        as_without_us()
        came.append(number)
        raise Ended

    def unraisable(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_type is Ended:  # raised where Python passes over errors, in a callback of the import system for one
            os.kill(os.getpid(), came[0])
        sys.__unraisablehook__(ignored)

    as_without_us()  # there is nothing to undo while the command line is imported
    from vcpuid.cli import main as run

    sys.unraisablehook = unraisable
    try:
        try:
            for number in ending:
                signal.signal(number, undo)
            run()
        finally:
            as_without_us()
    finally:
        gc.freeze()  # all that is left goes with the process; Python would look through it first
        if came:
            os.kill(os.getpid(), came[0])


if __name__ == "__main__":
    main()
