# `make demo` runs the main job on this machine, `make test` passes the tests; both make and use .venv.
# Another Python, in an environment of its own: make test PYTHON=python3.13 VENV=build/python3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FIGURES := build/figures.json
DIST := build/dist

# Each of the many processes that tests start would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

# A process a processor, or as many as are asked for; each takes whole files of tests, since these share what they make.
PROCESSES ?= auto
PYTEST := $(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile
# What `make quick` leaves out; pyproject.toml tells what the markers mean. Of a test with several cases it takes one in so many.
QUICK := not (process or bounds or long)
SAMPLE ?= 8

# make fuzz SECONDS=60 SEED=7 TARGETS='readers verbs'; make fuzz REPLAY=build/fuzz/finds/….json tries the input of a find again.
SECONDS ?= 300
SEED ?=
TARGETS ?=
REPLAY ?=

# make container BASE=python:3.13-slim takes another image to build on.
BASE ?=

.PHONY: demo setup test quick lint types generated check hooks bench fuzz man docs dist packages wheel pipx uvx zipapp container deb clean

# A question, and the verb that answers it; exit status 1 is an answer, not a failure.
, := ,
ask = @printf '%s\n$$ vcpuid %s\n\n' "$(1)" "$(2)"; $(BIN)/vcpuid $(2) || test $$? -eq 1; echo

demo: $(VENV)/.ready
	$(call ask,Which CPU does a guest with -cpu host get on this machine?,guest --cpu host)
	$(call ask,Does a guest with -cpu Skylake-Server-v4 see AVX-512 here$(,) and why?,explain avx512f --cpu Skylake-Server-v4)
	$(call ask,Would that CPU start here$(,) and what would the guest lack?,check Skylake-Server-v4)

setup: $(VENV)/.ready-dev

test: $(VENV)/.ready-dev
	$(PYTEST) --figures=$(FIGURES) --fired=build/fired.json

quick: $(VENV)/.ready-dev
	$(PYTEST) --quiet -m "$(QUICK)" --sample $(SAMPLE)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

# What a script makes and the repository holds is what the script makes today.
generated: $(VENV)/.ready-dev
	$(BIN)/pytest --quiet tests/live/test_collector.py -k test_it_is_up_to_date

check: lint types test

# What git runs before each commit, over all files: .pre-commit-config.yaml
hooks: lint types generated

bench: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/run.py

# Hostile input for all that takes any; exit status 1 where something was found. What it is and how it is used: CONTRIBUTING.md
fuzz: $(VENV)/.ready-dev
	$(BIN)/python -m fuzz $(if $(REPLAY),--replay $(REPLAY),$(TARGETS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)))

# One page a verb, in build/man/man1. The wheel has them too, and what is installed of it lies where man finds it.
man: $(VENV)/.ready
	$(BIN)/python tools/man_pages.py man build/man/man1
	@echo "build/man/man1: man -M build/man vcpuid-explain"

# The documentation's site, build/site/index.html. Its figures are those of the last `make test`, or of a run of the conformance tests alone.
docs: $(VENV)/.ready-docs $(FIGURES)
	$(BIN)/python tools/figures.py check $(FIGURES) README.md docs/conformance.md
	rm -rf build/site docs/generated
	$(BIN)/python tools/support_matrix.py $(FIGURES) docs/generated/support.md
	$(BIN)/python tools/man_pages.py markdown docs/generated/verbs
	$(BIN)/python tools/rules_page.py docs/generated/rules.md
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet -d build/doctrees docs build/site
	$(BIN)/python tools/playground.py build/site/playground
	$(BIN)/python tools/check_site.py build/site
	@echo build/site/index.html

$(FIGURES): $(shell find src tests -type f -not -name '*.pyc') | $(VENV)/.ready-dev
	$(PYTEST) -m conformance --figures=$@

$(VENV)/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# What is released, in build/dist: built from what git holds, then looked into, installed away from here and used.
dist: $(VENV)/.ready-dev
	rm -rf $(DIST)
	$(BIN)/python -m build --outdir $(DIST)
	$(BIN)/python tools/check_dist.py $(DIST)

# vcpuid for where people are, in build/packages, each built, and tried away from here: with pipx, with uvx, as one file for hosts without
# pip, in a container, as a package of Debian's. What lacks its tool is passed over, and said.
packages: $(VENV)/.ready-dev
	$(BIN)/python tools/packages.py

wheel pipx uvx zipapp container deb: $(VENV)/.ready-dev
	$(BIN)/python tools/packages.py $@ $(if $(BASE),--base $(BASE))

clean:
	rm -rf build docs/generated $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
