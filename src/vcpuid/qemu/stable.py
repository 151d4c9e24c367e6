"""Mends that stable updates of a release took over from later ones.

The tables of QEMU 7.2, 10.0 and 11.1 are of late updates, 7.2.22, 10.0.13 and 11.1.3; all others are of the first one, x.y.0. So a rule
that came in with a later release may hold for these already, and not for the releases between.
"""

from __future__ import annotations


def mended(release: tuple[int, int], since: tuple[int, int], also: tuple[int, int]) -> bool:
    """Whether a release's table has what came in with release `since`, and was taken over into the update of release `also`."""
    return release >= since or release == also
