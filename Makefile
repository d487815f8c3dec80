# `make demo` and `make test` set everything up by themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-faults lint install clean

demo: $(INSTALLED)
	$(BIN)/python -m osftx +experiment=tiny_two_phase
	$(BIN)/python -m osftx +experiment=tiny_two_phase name=tiny_by_activations osft.subspace=activations

test: lint
	$(BIN)/python -m pytest

test-faults: $(INSTALLED)         # kills at random moments: several minutes
	$(BIN)/python -m pytest tests/faults -s

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
