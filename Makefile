# Everything happens in .venv of this checkout; nothing global, no root.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
# Workers of the test run: two more than processors, because half of a test's time is waiting for processes.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(len(os.sched_getaffinity(0)) + 2)')

.PHONY: demo test bench lint fmt clean

demo: .venv/.demo
	@$(BIN)/python -m retz.demo

test: .venv/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

bench: .venv/.dev
	$(BIN)/python -m tests.benchmarks

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv dist build

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Retz needs Python 3.11 or newer with the venv module; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "setting up .venv (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "setting up .venv for development (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@# Without its dependencies: one of them no longer compiles (retz/engine/mesos/compat.py).
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps pymesos==0.3.15
	@touch .venv/.demo $@
