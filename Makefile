# Everything from a fresh clone, as root or not: make demo, make test. Needs Debian (or the tools that
# tools/debian-packages looks for), Python 3.11 or later, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes of pytest: more than processors, since most tests wait for the simulated host rather than compute.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

# Tests start hundreds of Python processes, which would compile this package each time.
unexport PYTHONDONTWRITEBYTECODE

# Tests name the PowerShell engine by this variable; a relative path is meant from here.
ifdef HVPS_PWSH
export HVPS_PWSH := $(abspath $(HVPS_PWSH))
endif

.PHONY: help demo test lint types pytest soak bench wheel clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    back up and restore two simulated VMs, and prove it"
	@echo "make test    lint, types and all tests but the long ones"
	@echo "make soak    the long tests, full counts"
	@echo "make bench   the benchmarks (minutes)"
	@echo "make wheel   build dist/*.whl"

# One environment serves demo and tests. The stamp is renewed when the dependencies may have changed.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "hvpsbridge needs Python 3.11 or later; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "as root, type: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,s3,sftp]'
	@touch $@

# Kerberos is built from source, which needs headers; the demo does without it.
$(VENV)/.kerberos: $(VENV)/.installed
	@tools/debian-packages test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,s3,sftp,kerberos]'
	@touch $@

demo: $(VENV)/.installed
	@tools/debian-packages demo
	@$(BIN)/hvps demo

test: $(VENV)/.kerberos
	@tools/debian-packages test
	@$(MAKE) --no-print-directory lint types pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

pytest: $(VENV)/.kerberos
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal

soak: $(VENV)/.kerberos
	@tools/debian-packages test
	$(BIN)/pytest -m soak -n $(JOBS) --dist worksteal --timeout 14400

bench: $(VENV)/.kerberos
	@tools/debian-packages test
	@for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

wheel: $(VENV)/.installed
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
