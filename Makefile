# `make demo` and `make test` set everything up by themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt    # compiled when first imported
RUNS := .venv/.runs
DEVELOPS := .venv/.develops

.PHONY: demo test test-fast test-slow test-gpu study lint install clean

demo: $(RUNS)
	$(BIN)/python -m osftx +experiment=tiny_two_phase
	$(BIN)/python -m osftx +experiment=tiny_two_phase name=tiny_by_activations osft.subspace=activations

test: lint
	$(BIN)/python -m pytest -n 2 tests/unit tests/property
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/integration    # two launches of ranks at a time

test-fast: lint                  # while you work: no ranks, no processes that are started and stopped, under 90 seconds
	$(BIN)/python -m pytest -q -n 2 -m "not process" tests/unit

test-slow: $(DEVELOPS)           # nodes, launchers, searches, benchmarks, shipped experiments; then kills, with their progress
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/slow --ignore tests/slow/test_kills.py
	$(BIN)/python -m pytest -s tests/slow/test_kills.py

test-gpu: $(DEVELOPS)            # on a machine with one
	$(BIN)/python -m pytest -n 6 --dist loadgroup tests/gpu

study: $(DEVELOPS)                # make study NAME=rivals: trains and writes the tables of experiments/rivals
	@test -x experiments/$(NAME)/run.sh || { echo "make study NAME=one of: $(patsubst experiments/%/run.sh,%,$(wildcard experiments/*/run.sh))"; exit 2; }
	PATH="$(CURDIR)/$(BIN):$$PATH" experiments/$(NAME)/run.sh

lint: $(DEVELOPS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(DEVELOPS)

$(RUNS): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

$(DEVELOPS): $(RUNS)
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
