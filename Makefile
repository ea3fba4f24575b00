# The commands of the house; `make` alone lists them. Everything runs in .venv, made by `setup`.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup
PRISM := tests/contract/prism
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help setup run test unit lint docs bench peers faults soak

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.stamp ## make .venv with everything in it (quick when nothing changed)

# A .venv that works is kept, whoever made it; one that does not run (Python gone) is made anew.
.venv/.stamp: requirements/run.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Figueira needs Python 3.11 or newer, found " + sys.version.split()[0] + ": make setup PYTHON=python3.11")'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## run it all on this machine: router, embedded PostgreSQL, sandbox, sample traffic, console
	@$(BIN)/python -m deploy.sandbox.demo

test: lint unit $(PRISM)/node_modules/.stamp ## lint, then every test: unit first, then the rest
	$(PYTEST) tests --ignore=tests/unit

# Prism judges the requests we make. Without it those tests are skipped, but where every server is required.
$(PRISM)/node_modules/.stamp: $(PRISM)/package.json $(PRISM)/package-lock.json
	@if command -v npm >/dev/null && npm ci --prefix $(PRISM) --ignore-scripts --no-audit --no-fund --loglevel=error; \
	then touch $@; \
	elif [ "$$FIGUEIRA_TEST_SERVERS" = require ]; \
	then echo "Prism could not be installed: it needs npm and Node.js 18.20 or newer" >&2; exit 1; \
	else echo "NOT TESTED: the contract tests with Prism, which needs npm and Node.js 18.20 or newer" >&2; fi

unit: setup ## the unit tests (under 30 s)
	$(PYTEST) tests/unit

lint: setup ## ruff, mypy, import contracts, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: setup ## check that the generated reference pages are up to date
	$(BIN)/python docs/generate.py --check

bench: setup peers ## floors, peers and ours: the figures of the performance page
	$(BIN)/python -m benchmarks

peers: .venv-peers/.stamp ## other people's tools that `bench` compares the import with, in an environment of their own

# Without them their arms are told as not run, and fail where every server is required.
.venv-peers/.stamp: requirements/peers.txt
	@if $(PYTHON) -m venv --clear .venv-peers && .venv-peers/bin/python -m pip install --quiet --require-hashes -r requirements/peers.txt; \
	then touch $@; \
	else rm -rf .venv-peers; echo "NOT MEASURED: dlt, mongopg-migrate, omnidbm, which could not be installed" >&2; fi

# Alone on the machine, so without xdist: these measure as well as check.
faults: setup ## the fault scenarios at full length
	FIGUEIRA_TEST_LENGTH=full $(BIN)/pytest tests/acceptance -m slow -k faults

soak: setup ## the soak at full length
	FIGUEIRA_TEST_LENGTH=full $(BIN)/pytest tests/acceptance -m slow -k soak
