# Farhand from a fresh clone. Needed: make, and Python >= 3.11 with venv; for `make test` Node >= 20 too.
#
#   make demo     a mesh on this machine, with something to watch (ARGS=--keep leaves it running)
#   make test     lint and every test (JOBS=1: one at a time)
#   make lint     ruff and mypy
#   make bench    throughput and latency, beside bare SQL
#   make mutants  breaks one guarantee at a time and prints which test caught it
#   make bounds   how long each failure is felt, beside what is promised
#   make chaos    kills, stops and cuts everything under load, then judges the history (MINUTES=3 SEED=… LANES=3)
#   make simulate the loops and workers in virtual time, seed after seed (ARGS=--help)
#   make containers  as root, on Debian or Ubuntu: installs what the tests of containers need and is missing
#   make protos   regenerates the stubs
#   make clean    removes what the others made
#
# PYTHON=… chooses the interpreter that .venv is made with.

# The first interpreter here that is new enough; empty where there is none.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS := 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NODE_CLIENT := tests/clients/node
NODE_INSTALLED := $(NODE_CLIENT)/node_modules/.package-lock.json

.PHONY: demo test lint bench mutants bounds chaos simulate containers protos clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	@$(BIN)/farhand demo $(ARGS)

test: lint $(NODE_INSTALLED)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: $(INSTALLED)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

mutants: $(INSTALLED)
	@$(BIN)/python -m tests.mutants $(ARGS)

bounds: $(INSTALLED)
	@$(BIN)/python -m tests.bounds $(ARGS)

chaos: $(INSTALLED)
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED)) $(if $(LANES),--lanes $(LANES))

simulate: $(INSTALLED)
	@$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FROM),--from $(FROM)) $(ARGS)

# Real containers for the tests that run as root: without a daemon, and without an image from anywhere.
containers:
	@command -v podman runc catatonit busybox >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		podman runc catatonit busybox-static; }

protos: $(INSTALLED)
	@$(BIN)/python protos/generate.py

clean:
	rm -rf $(VENV) $(NODE_CLIENT)/node_modules $(NODE_CLIENT)/gen build dist services/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last: an installation that was broken off is made anew.
$(INSTALLED): requirements.txt
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Farhand needs Python 3.11 or newer, and found none. Install one, or name it: make PYTHON=/path/to/python3' >&2; \
		exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Farhand needs Python 3.11 or newer; $(PYTHON) is not. Name another: make PYTHON=/path/to/python3' >&2; \
		exit 1; }
	@echo 'Installing into $(VENV) (a minute or so, only the first time)'
	@$(PYTHON) -m venv $(VENV) || { \
		echo '$(PYTHON) can make no virtual environment; on Debian and Ubuntu: apt-get install python3-venv' >&2; \
		rm -rf $(VENV); exit 1; }
	@$(PIP) install --require-hashes --requirement requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(NODE_INSTALLED): $(NODE_CLIENT)/package-lock.json
	@node --version 2>/dev/null | grep --quiet --extended-regexp '^v([2-9][0-9]|[1-9][0-9]{2})\.' || { \
		echo 'The tests include a client in TypeScript and need Node 20 or newer (nodejs, npm).' >&2; exit 1; }
	@cd $(NODE_CLIENT) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
