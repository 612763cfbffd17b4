# Everything runs in .venv; each target can be repeated and interrupted.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
# A process a core. All that starts Ray goes to the same one, since two Rays would starve each other, and is not left for last.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

.PHONY: help setup sweep test test-fast test-all coverage lint docs figures chaos bench ui lock
.DEFAULT_GOAL := help

help:
	@echo "make sweep      set up, run the quickstart sweep, print its ablation table"
	@echo "make test       set up, run the test suite: ten minutes on two cores"
	@echo "make setup      build $(VENV) alone"
	@echo "make test-fast  the tests that start no Ray"
	@echo "make test-all   the long ones too: clusters, killed servers, sweeps of hundreds of trials"
	@echo "make coverage   the test suite, and which lines it runs"
	@echo "make lint       ruff, mypy and who may import whom"
	@echo "make docs       build the documentation as a site in build/site; it works offline"
	@echo "make figures    draw the pictures of docs/ from their sources (graphviz)"
	@echo "make chaos      faults done to running sweeps, measured into docs/reliability.md"
	@echo "make bench      benchmarks against their peers"
	@echo "make ui         MLflow's UI on 127.0.0.1:5000"
	@echo "make lock       resolve the lock files anew"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; give it as PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -o '^uv==[^ ]*' $<)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

sweep: setup
	$(BIN)/linsweep launch quickstart
	$(BIN)/linsweep table quickstart

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m "not slow and not long"

test-all: setup
	$(PYTEST) -m ""

coverage: setup
	$(PYTEST) --cov --cov-report=term

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

figures:
	dot -Tsvg docs/images/trial.dot -o docs/images/trial.svg

# Built from source by the setuptools of requirements.lock, which also holds all else that they need.
$(PEERS): requirements-bench.lock $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --require-hashes -r $<
	@touch $(PEERS)

# Takes half an hour: sweeps are killed, starved and cut off in every way that tests/end_to_end/faults.py has.
chaos: setup
	$(BIN)/python -m tests.end_to_end.chaos --write docs/reliability.md

bench: $(PEERS)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

ui: setup
	$(BIN)/linsweep ui

# Releases of the last week are left out: some are withdrawn. The benchmarks' peers are locked beside the rest.
COMPILE = $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
	--exclude-newer "7 days" --no-emit-index-url --no-emit-find-links --no-header pyproject.toml
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --extra dev --extra docs --output-file requirements.lock
	$(COMPILE) --extra bench --constraint requirements.lock --output-file requirements-bench.lock \
		$$(sed -n 's/^\([^=]*\)==.*/--no-emit-package \1/p' requirements.lock)
	sed -i.all '/^# The following packages were excluded/,$$d' requirements-bench.lock
	rm requirements-bench.lock.all
