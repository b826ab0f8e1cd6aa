# What a person types. Needs make and Python 3.11 or newer, and nothing else: PostgreSQL and Redis come as wheels.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?= .refill
SIZE ?= full
JOBS ?= auto
ARGS ?=
ONLY ?=
SOURCES := config jobs worker tests

SUPPORTED := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PYTHON ?= $(firstword $(foreach name,$(CANDIDATES),$(shell $(name) -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $(name))))

.DEFAULT_GOAL := help
.PHONY: help install run test lint format types check bench lock clean

help:
	@echo 'make run      everything, with sample spends: PostgreSQL, Redis, a sandbox card processor and refill itself'
	@echo 'make install  $(BIN)/refill and all that it needs, in $(VENV)'
	@echo 'make test     lint, types and the whole test suite    (ARGS="-k name" to choose, JOBS=N processes)'
	@echo 'make check    lint and types only'
	@echo 'make format   format the sources'
	@echo 'make bench    the figures of the benchmarks           (SIZE=small for minutes, ONLY="f1 f4" for some)'
	@echo 'make lock     choose the versions in constraints.txt anew'
	@echo 'make clean    remove $(VENV) and caches; never your data'

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(if $(PYTHON),:,echo 'refill needs Python 3.11 or newer with its venv module. Install it, or name it: make PYTHON=/path/to/python3' >&2; exit 2)
	@$(PYTHON) -c '$(SUPPORTED)' || { echo '$(PYTHON) is not Python 3.11 or newer with its venv module' >&2; exit 2; }
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install
	@exec $(BIN)/refill up --demo --data $(DATA)

test: install
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadgroup $(ARGS)

lint: install
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: install
	$(BIN)/mypy

check: lint types

format: install
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install
	$(BIN)/python -m tests.bench --size $(SIZE) --only $(ONLY)

# Run it with the oldest supported Python: what newer ones do not need is a small price for one file that fits all.
lock:
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet pip-tools
	$(VENV)-lock/bin/pip-compile --upgrade --quiet --generate-hashes --all-extras --all-build-deps --allow-unsafe --strip-extras \
		--no-header --no-emit-options --no-emit-index-url --no-emit-find-links --output-file constraints.txt pyproject.toml
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
