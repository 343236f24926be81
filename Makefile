# make demo | test | lint | format | compat | bench | clean
# Everything runs in .venv, which is made on the first call and again when a requirement changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test

# The exact versions in requirements/ were chosen on 3.11.
PYTHON ?= $(shell for name in python3 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { command -v "$$name"; break; }; done)
BIN := .venv/bin
REQUIREMENTS := requirements/torch.txt requirements/main.txt
# Empty files whose names carry what was installed, so that a second call does nothing.
PINNED := .venv/.pinned-$(shell cat $(REQUIREMENTS) | cksum | tr ' ' -)
READY := .venv/.ready-$(shell cat $(REQUIREMENTS) pyproject.toml | cksum | tr ' ' -)
PIP := $(BIN)/python -m pip --disable-pip-version-check
TESTS ?= tests
SOURCES := foreword tests $(wildcard bench scripts)

.PHONY: demo test lint format compat bench clean distclean setup

# On another decoder: make demo BASE=hub-id, folder or GGUF file.
demo: $(READY)
	@$(BIN)/python scripts/demo.py $(if $(BASE),--base "$(BASE)")

test: lint
	@$(BIN)/python -m pytest -q -n 2 $(TESTS)

lint: $(READY)
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "not formatted: run make format" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_imports.py

format: $(READY)
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

# The contracts, on the oldest and the newest transformers that pyproject.toml claims, each in an environment of its own;
# then every text family of the newest, as a tiny random model (docs/families.md).
compat: $(READY)
	@$(BIN)/python -m tests.compat
	@$(BIN)/python bench/families.py --write docs/families.md

# What needs nothing but the sample models; the other scripts in bench/ want data and say so (--help).
bench: $(READY)
	@for name in roofline train_speed many cached growth dry_run_memory verdict; do \
		echo "== bench/$$name.py"; $(BIN)/python "bench/$$name.py"; done

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv

setup: $(READY)

$(READY): $(PINNED)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/.ready-*
	@touch $@

$(PINNED):
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 was not found; name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		echo "making .venv with $(PYTHON)" >&2; "$(PYTHON)" -m venv --clear .venv; }
	@echo "installing torch (about 200 MB)" >&2
	@$(PIP) install --quiet -r requirements/torch.txt
	@echo "installing the other pinned requirements (about 250 MB)" >&2
	@$(PIP) install --quiet -r requirements/main.txt
	@rm -f .venv/.pinned-*
	@touch $@
