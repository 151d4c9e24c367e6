# `make demo` runs the main job on this machine, `make test` passes the tests; both make and use .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types check bench man clean

# explain exits 1 where the guest does not see the feature: an answer, not a failure.
demo: .venv/.ready
	$(BIN)/vcpuid explain avx512f --cpu Skylake-Server-v4 || test $$? -eq 1
	@echo
	$(BIN)/vcpuid guest --cpu host

test: .venv/.ready-dev
	$(BIN)/pytest

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready-dev
	$(BIN)/mypy

check: lint types test

bench: .venv/.ready-dev
	$(BIN)/python benchmarks/run.py

# One page a verb, in build/man/man1: MANPATH=build/man man vcpuid-explain
man: .venv/.ready
	$(BIN)/python tools/man_pages.py man build/man/man1

.venv/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.ready-dev: .venv/.ready
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
