# make run ARGS='--port 9000'
# Needs python3 (3.11 or newer, with venv) and make; everything else is installed into .venv.
PYTHON ?= python3
ARGS ?=
# The tests run in as many processes as there are processors, four at most; `make test WORKERS=0` in one.
WORKERS ?= auto
BIN := .venv/bin

.PHONY: run test lint format clean

run: .venv/.livechat
	$(BIN)/livechat serve $(ARGS)

# Many tests start processes; without bytecode each of those would compile all of livechat first.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.test
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

# One stamp a set of dependencies, renewed when pyproject.toml changes.
.venv/.livechat: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.venv/.lint: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@
