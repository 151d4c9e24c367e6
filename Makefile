# `make demo` runs the main job on this machine, `make test` passes the tests; both make and use .venv.
PYTHON ?= python3
BIN := .venv/bin
FIGURES := build/figures.json

.PHONY: demo test lint types check bench man docs clean

# explain exits 1 where the guest does not see the feature: an answer, not a failure.
demo: .venv/.ready
	$(BIN)/vcpuid explain avx512f --cpu Skylake-Server-v4 || test $$? -eq 1
	@echo
	$(BIN)/vcpuid guest --cpu host

test: .venv/.ready-dev
	$(BIN)/pytest --figures=$(FIGURES)

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

# The documentation's site, build/site/index.html. Its figures are those of the last `make test`, or of a run of the conformance tests alone.
docs: .venv/.ready-docs $(FIGURES)
	$(BIN)/python tools/figures.py check $(FIGURES) README.md docs/conformance.md
	rm -rf build/site docs/generated
	$(BIN)/python tools/support_matrix.py $(FIGURES) docs/generated/support.md
	$(BIN)/python tools/man_pages.py markdown docs/generated/verbs
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet -d build/doctrees docs build/site
	$(BIN)/python tools/check_site.py build/site
	@echo build/site/index.html

$(FIGURES): $(shell find src tests -type f -not -name '*.pyc') | .venv/.ready-dev
	$(BIN)/pytest -m conformance --figures=$@

.venv/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.ready-dev: .venv/.ready
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/.ready-docs: .venv/.ready
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

clean:
	rm -rf build docs/generated .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
