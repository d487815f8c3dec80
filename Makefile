# `make demo` and `make test` set everything up by themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUNS := .venv/.runs
DEVELOPS := .venv/.develops

.PHONY: demo test test-faults lint install clean

demo: $(RUNS)
	$(BIN)/python -m osftx +experiment=tiny_two_phase
	$(BIN)/python -m osftx +experiment=tiny_two_phase name=tiny_by_activations osft.subspace=activations

test: lint
	$(BIN)/python -m pytest -n 2 tests/unit tests/property      # one process each
	$(BIN)/python -m pytest tests/integration                   # two ranks each: one after another

test-faults: $(DEVELOPS)         # kills at random moments: several minutes
	$(BIN)/python -m pytest tests/faults -s

lint: $(DEVELOPS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(DEVELOPS)

$(RUNS): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEVELOPS): $(RUNS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
