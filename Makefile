# `make help` lists the targets. Nothing here needs more than git, make and python3 >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two: the suite starts a Valkey and a PostgreSQL for each pytest worker, on free ports.
TEST_WORKERS ?= 2
PACKAGES := lua engine persistence payments workers api cli sandbox
# The modules that run embedded servers; a production install imports none of them.
EMBEDDED := sandbox/(binaries|processes|servers)\.py
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo up test lint format types unit torture simulate bench loadtest screenshots migrate lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv from the pinned lock file

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv module; on Debian or Ubuntu run: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)  ## one whole sale on real servers, over real HTTP, with its report
	@$(BIN)/flashsale demo $(ARGS)

up: $(STAMP)  ## the whole stack in the foreground, embedded servers where none are configured
	@$(BIN)/flashsale up $(ARGS)

test: $(STAMP) lint types unit  ## lint, types, layers and every test

lint: $(STAMP)  ## ruff's rules, its format, the layer rule, and each import declared
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .
	$(BIN)/deptry . --extend-exclude tests --extend-exclude loadtests --extend-exclude '$(EMBEDDED)' \
	  --optional-dependencies-dev-groups dev,sandbox,traces

format: $(STAMP)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy $(PACKAGES) tests $(wildcard loadtests)

unit: $(STAMP)  ## pytest alone; ARGS="-k hold" narrows it
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadgroup $(ARGS)

torture: $(STAMP)  ## the long, seeded tests that kill processes; ROUNDS=4-7 runs a part
	$(BIN)/pytest -m torture -s --timeout 3600 $(ARGS)

simulate: $(STAMP)  ## random schedules of a whole sale against a model; prints the seed
	$(BIN)/python -m loadtests.simulate $(ARGS)

bench: $(STAMP)  ## every figure beside its yardstick, measured here
	$(BIN)/python -m loadtests.bench $(ARGS)

loadtest: $(STAMP)  ## locust's rush, headless, against `flashsale up`, or ARGS="--url URL --sale ID"
	$(BIN)/python -m loadtests.run $(ARGS)

screenshots: $(STAMP)  ## both pages during a live sale, by Chromium, into docs/images
	$(BIN)/python -m loadtests.screenshots

migrate: $(STAMP)  ## bring FLASHSALE_DATABASE_URL to the current schema
	@$(BIN)/flashsale migrate $(ARGS)

lock: $(STAMP)  ## resolve the dependencies anew: ARGS=--upgrade, or ARGS="--upgrade-package NAME"
	$(LOCK) pyproject.toml --extra traces -o requirements.lock $(ARGS)
	$(LOCK) --group pyproject.toml:build -o requirements-build.lock $(ARGS)
	$(LOCK) pyproject.toml --extra sandbox --extra traces --extra dev --group pyproject.toml:build -o requirements-dev.lock $(ARGS)

clean:  ## remove .venv, caches and build output; sales in .flashsale stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
