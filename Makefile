# Everything a developer does, one verb each. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?= serve
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.DEFAULT_GOAL := help

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: .venv/run  ## start the studio, or run any command: make run ARGS='txt2img "a red circle" -o out.png'
	@$(BIN)/cloudbrush $(ARGS)

# Two processes, whole files each: most tests wait for processes of their own, and a file shares its servers.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

test: .venv/test  ## everything but the slow tests, offline
	@$(PYTEST) -m "not slow"

test-all: .venv/test  ## the slow tests too
	@$(PYTEST)

check: .venv/test  ## style, types and import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

fix: .venv/test  ## what style can be mended by itself
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

pocket: .venv/test  ## train the built-in model from its seed; resumes where it stopped
	@$(BIN)/python -m training.pocket

pocket-eval: .venv/test  ## score the built-in model on prompts it never saw
	@$(BIN)/python -m training.pocket evaluate

screenshots: .venv/test  ## the pictures of the user guide
	@CLOUDBRUSH_SCREENSHOTS=1 $(BIN)/python -m pytest tests/browser -m browser

clean:  ## the virtual environment and build products; data/ stays
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Cloudbrush needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	@echo "Making a virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing Cloudbrush (torch is large: this takes some minutes the first time) ..."
	@$(PIP) -c constraints.txt -e '.[studio,worker,aws]'
	@touch $@

.venv/test: .venv/run
	@echo "Installing what the tests need ..."
	@$(PIP) -c constraints.txt -e '.[studio,worker,aws,postgres,dev]'
	@sh tests/browser/install_chromium.sh
	@sh tests/stores/install_postgres.sh
	@touch $@

.PHONY: help run test test-all check fix pocket pocket-eval screenshots clean
