# `make` lists the targets. Everything a target needs, system packages included, is installed by the target itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The distribution's own interpreter: the one the packages run on.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
DEBIAN_PACKAGES := mosquitto mosquitto-clients postgresql python3-venv
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: system
system: ## Install the Debian packages that are missing (asks for root through sudo where needed)
	@missing=$$(for package in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    $(SUDO) apt-get update -q; \
	    $(SUDO) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

$(VENV)/.ready: requirements/dev.lock pyproject.toml | system
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: dev
dev: $(VENV)/.ready ## Set up the development environment in .venv

.PHONY: demo
demo: DEBIAN_PACKAGES := mosquitto python3-venv
demo: dev ## Show a broker, a dispatcher and two workers at work on real prices (about 10 s, nothing stays behind)
	@$(BIN)/python -m demo

.PHONY: format
format: dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: check
check: dev ## Lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lock
lock: dev ## Resolve the locked dependencies again
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-annotate --python-version 3.11 --quiet --output-file requirements/dev.lock

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf $(VENV) .venv-* dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
