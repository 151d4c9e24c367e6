"""Many hosts, one CPU: which classes a fleet has, which -cpu runs on all, who costs what, and what moves where.

`open` takes a folder of snapshots, a store that `Fleet.add` makes, or whatever answers SQL.
"""

from vcpuid.fleet.fleet import Fleet, open

__all__ = ["Fleet", "open"]
