# `make demo` and `make test` need Python 3.11 or newer and a package index, and nothing else.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: setup demo test test-slow lint tiny lock

demo: setup  ## improve an embedded model on a handbook: the whole loop in a few minutes
	$(BIN)/bench demo

test: setup  ## run the test suite, but for the slow tests
	$(BIN)/python -m pytest -n logical --dist worksteal -m "not slow"

test-slow: setup  ## run the slow tests: kills in every stage, real launchers
	$(BIN)/python -m pytest -n logical --dist worksteal -m slow

lint: setup  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup:  ## make .venv from requirements.lock
	@$(PYTHON) scripts/install.py

tiny: setup  ## make the embedded model anew: about an hour on two processor cores
	$(BIN)/python -m recipes.tiny

lock:  ## choose versions anew; without index addresses, with hashes
	uv pip compile pyproject.toml --extra local --extra rag --extra offline --extra gguf --extra serve --extra lm-eval --extra metrics --extra traces --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	  --quiet --output-file requirements.lock
