# `make` lists the targets. Everything a target needs, system packages included, is installed by the target itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The distribution's own interpreter: the one the packages run on.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
DEBIAN_PACKAGES := mosquitto mosquitto-clients openssl postgresql python3-venv systemd
PURE_TESTS := tests/unit tests/property tests/contract/test_broker_template.py
# A file's tests share their broker, and stay together.
PARALLEL := --numprocesses auto --dist loadfile
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

$(VENV)/.ready: requirements/dev.lock | system
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
check: dev ## Lint, types, layers and generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

# What the tests need beyond the distribution's Python is locked for each release whose libraries the packages run on. The
# locks are complete; --no-deps, because pyhpke asks for a newer cryptography than Debian 12 has and it needs.
.venv-debian-%/.ready: requirements/debian-%.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps -r $<
	touch $@

.PHONY: test
test: dev .venv-debian-12/.ready .venv-debian-13/.ready ## Run all tests, linters included, and the pure ones on Debian's libraries too
	$(BIN)/pytest $(PARALLEL)
	@for release in 12 13; do \
	    echo "with the libraries of Debian $$release:"; \
	    PYTHONPATH=$(CURDIR)/agent .venv-debian-$$release/bin/python -m pytest -q $(PARALLEL) $(PURE_TESTS); \
	done

.venv-packaging/.ready: requirements/packaging.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: packages
packages: dev .venv-packaging/.ready ## Build the .deb and .rpm packages into dist/, the same bytes each time
	PATH=$(CURDIR)/.venv-packaging/bin:$$PATH PYTHONPATH=packaging $(BIN)/python -m builder --out dist

KEY ?=
REPO ?= dist/repo
REPO_OPTIONS ?=

.PHONY: repo
repo: DEBIAN_PACKAGES := createrepo-c gpg gpg-agent python3-venv rpm
repo: dev packages ## Publish the packages in signed repositories for apt and dnf (KEY=…, REPO=dist/repo; docs/packages.md)
	@PATH=$(CURDIR)/.venv-packaging/bin:$$PATH PYTHONPATH=packaging $(BIN)/python -m repository \
	    --packages dist --to $(REPO) --key '$(KEY)' $(REPO_OPTIONS)

.PHONY: test-packages
test-packages: DEBIAN_PACKAGES += createrepo-c debootstrap e2fsprogs fish gpg gpg-agent lintian mount piuparts python3-rpm \
	qemu-system-x86 rpm systemd-container zsh
test-packages: dev packages ## Install the packages on booted Debian 12 and 13 and try them (as root; about 10 min)
	$(SUDO) $(BIN)/pytest --timeout 600 tests/packages # the first time, two releases of Debian are fetched

.PHONY: bench
bench: dev ## Measure jobs per second and latency, beside what this machine could do at all
	$(BIN)/python -m bench

.PHONY: bench-recovery
bench-recovery: dev ## Measure how long jobs wait for a killed worker or broker (about 10 min)
	$(BIN)/python -m bench.recovery

.PHONY: bench-sealing
bench-sealing: dev ## Measure what it costs to seal, sign, verify and open jobs, beside plain ones
	$(BIN)/python -m bench.sealing

.PHONY: bench-killing
bench-killing: dev ## Measure how long jobs take to die that scatter their processes, and whether any survives (as root)
	$(SUDO) $(BIN)/python -m bench.killing

HANGS ?= 20

.PHONY: bench-watchdog
bench-watchdog: DEBIAN_PACKAGES += debootstrap mount systemd-container
bench-watchdog: dev packages ## Get workers stuck HANGS=20 times in each way, on a booted machine (as root): each is healed
	$(SUDO) $(BIN)/python -m bench.watchdog --hangs $(HANGS)

.PHONY: bench-install
bench-install: DEBIAN_PACKAGES += debootstrap mount systemd-container
bench-install: dev packages ## Measure how long it takes from an install to a worker that is ready (as root; about 2 min)
	$(SUDO) $(BIN)/python -m bench.install

MINUTES ?= 30

.PHONY: soak
soak: dev ## Run a load with bad connections for MINUTES=30, and say whether any process grows
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

.PHONY: chaos
chaos: dev ## Run 100,000 jobs through 500 faults (about 15 min; STOCKWORKER_SEED=N makes the same faults again)
	$(BIN)/python -m tests.chaos

HOURS ?= 100

.PHONY: simulate
simulate: dev ## Live through HOURS=100 simulated hours of faults, from a random seed (docs/simulation.md)
	@$(BIN)/python -m tests.simulation --hours $(HOURS)

.PHONY: simulate-ci
simulate-ci: dev ## Live through 1,000 simulated hours of faults, always the same ones
	@$(BIN)/python -m tests.simulation --hours 1000 --seed 1

.PHONY: simulate-nightly
simulate-nightly: dev ## Live through 10,000 simulated hours of faults, from a random seed
	@$(BIN)/python -m tests.simulation --hours 10000

.PHONY: docs
docs: dev ## Write the generated documents anew
	$(BIN)/python docs/generate.py

LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
	--python-version 3.11 --quiet

.PHONY: lock
lock: dev ## Resolve the locked dependencies again
	$(LOCK) pyproject.toml --all-extras --group dev --upgrade --output-file requirements/dev.lock
	$(LOCK) requirements/debian-12.in --override requirements/debian-12.override --upgrade --output-file requirements/debian-12.lock
	$(LOCK) requirements/debian-13.in --upgrade --output-file requirements/debian-13.lock
	$(LOCK) requirements/packaging.in --upgrade --output-file requirements/packaging.lock

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf $(VENV) .venv-* dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
