# `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What running needs, and everything. The CPU build of torch, ten times smaller: UV_TORCH_BACKEND=cpu make ...
RUN := $(VENV)/.run
ALL := $(VENV)/.all

.PHONY: help setup demo docs test lint clean

help: ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(ALL) ## Make .venv with everything: also W&B, ONNX, the site, the tests

$(RUN): requirements.txt overrides.txt pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed; name one with make PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt -e . --override overrides.txt
	touch $@

$(ALL): $(RUN) requirements-dev.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-dev.txt --override overrides.txt
	touch $@

demo: $(RUN) ## Train on embedded digits, evaluate, print the table (some minutes)
	$(BIN)/l2nnn demo

docs: setup ## The site, strictly, into site/
	$(BIN)/mkdocs build --strict --quiet

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint docs ## Linters, the site and all tests
	$(BIN)/pytest --doctest-modules l2nnn_lightning
	$(BIN)/pytest

clean: ## Remove the environment and the caches, not the runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build site
