# Everything sets itself up in .venv: a fresh machine needs Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test lint chaos bench clean

quickstart: $(VENV)/.runtime  ## pages to a trained, evaluated model on the mini-web
	$(BIN)/python -m jobs.quickstart

test: $(VENV)/.dev  ## unit, property, end-to-end and kill tests
	$(BIN)/python -m pytest

lint: $(VENV)/.dev  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.dev  ## longer fault injection
	$(BIN)/python -m pytest -m chaos

bench: $(VENV)/.bench  ## ours beside the peers
	$(BIN)/openwit bench engine
	$(BIN)/openwit bench trainer

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.runtime
	$(PIP) -e '.[bench]'
	touch $@

clean:
	rm -rf runs build dist *.egg-info
