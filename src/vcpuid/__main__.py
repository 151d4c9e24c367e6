"""python -m vcpuid."""

from vcpuid.cli import main

main()
