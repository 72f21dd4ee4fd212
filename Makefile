# Everything sets itself up in .venv: a fresh machine needs Python 3.11 or later, pip and make.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One module stays on one worker, and one worker owns Ray; the longest begin first.
SPREAD := -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help quickstart check fast test lint chaos reference docs bench clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(VENV)/.runtime  ## pages to a trained, evaluated model on the mini-web
	$(BIN)/python -m jobs.quickstart

check: $(VENV)/.dev  ## what to run before every commit: lint beside the fast tests (90 s)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint fast

fast: $(VENV)/.dev  ## the fast tests alone
	$(BIN)/python -m pytest $(SPREAD) -m fast

test: $(VENV)/.dev  ## every test but chaos, and the slowest twenty (12 min on 2 cores)
	$(BIN)/python -m pytest $(SPREAD) --durations=20

lint: $(VENV)/.dev  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.dev  ## longer fault injection
	$(BIN)/python -m pytest -m chaos

reference: $(VENV)/.dev  ## write docs/reference from the code
	$(BIN)/python -m tools.reference

docs: $(VENV)/.docs  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.bench  ## ours beside the peers
	$(BIN)/openwit bench engine
	$(BIN)/openwit bench trainer

clean:  ## remove what runs and builds leave behind, but not .venv
	rm -rf runs build dist site *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) -e '.[docs]'
	touch $@

$(VENV)/.bench: $(VENV)/.runtime
	$(PIP) -e '.[bench]'
	touch $@
