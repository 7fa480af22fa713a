# What is done with the project; `make` alone lists it.
#   PYTHON=python3.12  the interpreter that .venv is made with (>= 3.11)
#   ARGS="..."         passed on: make train ARGS="model/cell=lstm seed=1", make test ARGS="-k cells"
#   DIR=PATH           the runs that `make tensorboard` shows

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c "$(NEW_ENOUGH)" && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# One process a core, each with one thread; PARALLEL= runs the tests in one process.
PARALLEL ?= -n auto --dist worksteal
DIR ?= outputs

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all lint typecheck format wheel tensorboard clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  with ARGS="..." for train and test, PYTHON=... for setup, DIR=... for tensorboard'

setup: $(STAMP) ## make .venv with every package at its pinned version

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c "$(NEW_ENOUGH)" || { \
		echo 'seqmodels needs Python >= 3.11; name one with: make setup PYTHON=/path/to/python3' >&2; \
		exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@echo 'installing the packages of constraints.txt into $(VENV): minutes, once'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

train: $(STAMP) ## train a language model on Python's own source code; ARGS are its overrides
	$(BIN)/seqmodels train $(ARGS)

test: $(STAMP) ## the tests, in minutes
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: $(STAMP) ## the tests, the slow ones too
	$(BIN)/python -m pytest $(PARALLEL) -m 'slow or not slow' $(ARGS)

lint: $(STAMP) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

typecheck: $(STAMP) ## types alone
	$(BIN)/mypy

format: $(STAMP) ## put style and format right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP) ## dist/seqmodels-*.whl
	$(BIN)/python -m build --wheel

tensorboard: $(STAMP) ## show the runs under DIR (outputs/) in the browser
	$(BIN)/seqmodels tensorboard "$(DIR)"

clean: ## remove caches and builds; runs and .venv stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)
