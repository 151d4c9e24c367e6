"""What a host does not tell: which facts are missing, and which answers depend on them.

No party knows of missing facts: each reads 0 where nothing is told. `vcpuid.told.completions` says what the missing ones could be, the
parties are asked once more for each, and what they answer otherwise is not told.
"""
