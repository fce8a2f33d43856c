# `make` lists the targets. Each target installs everything that it needs, system packages included.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The distribution's own interpreter, on which the packages run.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
DEBIAN_PACKAGES := groff-base mariadb-server mosquitto mosquitto-clients openssl php-cli postgresql python3-venv rabbitmq-server \
	redis-server systemd tmux
BROWSER := chromium chromium-driver
PURE_TESTS := tests/unit tests/property tests/contract/test_broker_template.py
# The tests of a file share a broker, so they run in one process. Many tests wait, so two processors serve three of them.
# Files in the order of their names: the longest ones, of single tests, do not come last.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# Tests start a thousand processes of the product: with its bytecode kept, each takes a quarter less time.
unexport PYTHONDONTWRITEBYTECODE
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: system
system: ## Install missing Debian packages (as root, with sudo if necessary)
	@missing=$$(for package in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    $(SUDO) apt-get update -q; \
	    $(SUDO) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 $$missing; \
	fi

$(VENV)/.ready: requirements/dev.lock | system
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: dev
dev: $(VENV)/.ready ## Set up the development environment in .venv

MIGRATION_TESTS := $(BIN)/pytest --timeout 600 --numprocesses 3 --dist loadgroup tests/migration

.PHONY: test-migration
test-migration: dev ## Move 3,000 jobs from each kind of old queue, with ten kills each (about 2 min)
	$(MIGRATION_TESTS) --jobs 3000

.PHONY: test-migration-full
test-migration-full: dev ## Move 20,000 jobs from each kind of old queue, with ten kills each (about 6 min)
	$(MIGRATION_TESTS) --jobs 20000

.PHONY: demo
demo: DEBIAN_PACKAGES := mosquitto python3-venv
demo: dev ## Run a broker, a dispatcher and two workers on real prices (about 10 s, leaves nothing behind)
	@$(BIN)/python -m demo

.PHONY: screenshots
screenshots: DEBIAN_PACKAGES := $(BROWSER) mosquitto python3-venv
screenshots: dev ## Make the screenshots of docs/web.md, of a fleet with sample data (about 3 min)
	$(BIN)/python -m demo.screenshots

.PHONY: format
format: dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: check
check: dev ## Check lint, types, layers and generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

# One lock for each Debian release has its libraries and the tools of the tests. The locks are complete. --no-deps, because
# pyhpke declares a newer cryptography than Debian 12 has, and does not need it.
.venv-debian-%/.ready: requirements/debian-%.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps -r $<
	touch $@

# The checker of alert rules alone, because the package would start a server. Its other files are 90 MB.
.tools/promtool: | system
	mkdir -p .tools
	cd .tools && { apt-get download -q prometheus || { $(SUDO) apt-get update -q; apt-get download -q prometheus; }; }
	dpkg-deb --fsys-tarfile .tools/prometheus_*.deb | tar --extract --directory=.tools --strip-components=3 ./usr/bin/promtool
	rm .tools/prometheus_*.deb

.PHONY: test
test: DEBIAN_PACKAGES += $(BROWSER)
test: dev site .tools/promtool .venv-debian-12/.ready .venv-debian-13/.ready ## Run all tests and linters, and the pure tests with Debian's libraries too
	$(BIN)/pytest $(PARALLEL)
	@for release in 12 13; do \
	    echo "with the libraries of Debian $$release:"; \
	    PYTHONPATH=$(CURDIR)/agent .venv-debian-$$release/bin/python -m pytest -q $(PARALLEL) --hypothesis-profile=few $(PURE_TESTS); \
	done

.venv-packaging/.ready: requirements/packaging.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: packages
packages: dev .venv-packaging/.ready ## Build the .deb and .rpm packages into dist/, reproducibly
	PATH=$(CURDIR)/.venv-packaging/bin:$$PATH PYTHONPATH=packaging $(BIN)/python -m builder --out dist

.venv-site/.ready: requirements/site.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: site
site: dev .venv-site/.ready ## Build the documents as a site in build/site, with search; a warning is an error
	$(BIN)/python -m docs.site build/site-pages
	.venv-site/bin/python -m sphinx -W --keep-going -n -q build/site-pages build/site
	@if grep -rlE '(src|href)="https?://[^"]+\.(js|css|woff2?)"' build/site; then echo "these pages load files of other servers"; exit 1; fi

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
test-packages: dev packages ## Test the packages on booted Debian 12 and 13 (as root; about 8 min)
	$(SUDO) $(BIN)/pytest $(PARALLEL) --timeout 900 tests/packages # the first run downloads two releases of Debian

.venv-ansible/.ready: requirements/ansible.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	touch $@

LAB_PACKAGES := createrepo-c debootstrap gpg gpg-agent iproute2 mount openssh-client rpm systemd-container
LAB_TEST := $(SUDO) $(BIN)/pytest -s --timeout 1800

.PHONY: lint-ansible
lint-ansible: DEBIAN_PACKAGES += git
lint-ansible: dev .venv-ansible/.ready ## Check the Ansible collection with ansible-lint
	$(BIN)/pytest --timeout 600 tests/ansible/test_lint.py

.PHONY: test-ansible
test-ansible: DEBIAN_PACKAGES += git $(LAB_PACKAGES)
test-ansible: dev .venv-ansible/.ready .venv-packaging/.ready ## Roll out to a lab of booted machines, with a bad release (as root)
	$(LAB_TEST) tests/ansible/test_lint.py tests/ansible/test_rollout.py

.PHONY: test-ansible-full
test-ansible-full: DEBIAN_PACKAGES += git $(LAB_PACKAGES)
test-ansible-full: dev packages .venv-ansible/.ready ## Run all tests of the Ansible collection, with cuts, reboots and interruptions (as root)
	$(LAB_TEST) tests/ansible

.PHONY: lab
lab: DEBIAN_PACKAGES += $(LAB_PACKAGES)
lab: dev packages .venv-ansible/.ready ## Boot a fleet of five machines to try the playbooks on (as root; until make lab-down)
	@$(SUDO) $(BIN)/python -m tests.ansible up

.PHONY: lab-down
lab-down: dev ## Remove the lab
	@$(SUDO) $(BIN)/python -m tests.ansible down

# A commit to compare with.
BASE ?=

.venv-peers/.ready: requirements/peers.lock | system
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	touch $@

WORKLOADS ?=
PEERS ?=
ROUNDS ?= 3
FLAMES ?=
BENCH_PACKAGES := nats-server rabbitmq-server redis-server

.PHONY: bench
bench: DEBIAN_PACKAGES += $(BENCH_PACKAGES)
bench: dev .venv-peers/.ready ## Measure this product beside its peers (WORKLOADS="drain …", PEERS="nats …", ROUNDS=3, FLAMES=1)
	$(BIN)/python -m bench --rounds $(ROUNDS) $(if $(WORKLOADS),--workloads $(WORKLOADS)) $(if $(PEERS),--peers $(PEERS)) \
	    $(if $(FLAMES),--flames)

.PHONY: bench-backlog
bench-backlog: DEBIAN_PACKAGES += $(BENCH_PACKAGES)
bench-backlog: dev .venv-peers/.ready ## Measure a drain in front of 1,000,000 queued jobs, and add it to the figures of `make bench`
	$(BIN)/python -m bench --rounds $(ROUNDS) --workloads backlog --add --no-ceilings --peers $(or $(PEERS),stockworker)

.PHONY: bench-quick
bench-quick: dev ## Compare the costs of this checkout with those of an earlier commit, pair by pair (BASE=commit; 3 min)
	$(BIN)/python -m bench.quick $(if $(BASE),--base $(BASE))

SCALE ?= 1
RATE ?= 200

.PHONY: bench-faults
bench-faults: DEBIAN_PACKAGES += $(BENCH_PACKAGES)
bench-faults: dev .venv-peers/.ready ## Measure how queues recover from faults under a steady load (about 2 h; SCALE=0.1 RATE=200)
	$(BIN)/python -m bench.faults --scale $(SCALE) --rate $(RATE) $(if $(PEERS),--peers $(PEERS))

.PHONY: bench-docs
bench-docs: dev ## Write the figures of `make bench` into docs/performance.md
	$(BIN)/python -m bench --write-docs build/bench/latest.json

.PHONY: bench-recovery
bench-recovery: dev ## Measure how long jobs wait after a worker or broker was killed (about 10 min)
	$(BIN)/python -m bench.recovery

.PHONY: bench-market
bench-market: dev .venv-peers/.ready ## Measure imports and indicators of market data beside polars, pandas and TA-Lib (ROUNDS=3; 5 min)
	$(BIN)/python -m bench.market --rounds $(ROUNDS)

.PHONY: bench-migration
bench-migration: dev ## Measure how many jobs a second move from each kind of old queue (3 min)
	$(BIN)/python -m bench.migration

.PHONY: bench-sealing
bench-sealing: dev ## Measure the cost of sealing, signing, verifying and opening jobs
	$(BIN)/python -m bench.sealing

.PHONY: bench-watching
bench-watching: dev ## Measure the views of a fleet with 1,000 workers and 100,000 jobs, and what they cost (5 min)
	$(BIN)/python -m bench.watching

.PHONY: bench-isolation
bench-isolation: dev ## Measure what each isolation of Python handlers costs, side by side
	$(BIN)/python -m bench.isolation

.PHONY: bench-killing
bench-killing: dev ## Measure how long it takes to kill jobs with scattered processes, and check that none remains (as root)
	$(SUDO) $(BIN)/python -m bench.killing

HANGS ?= 20

.PHONY: bench-watchdog
bench-watchdog: DEBIAN_PACKAGES += debootstrap mount systemd-container
bench-watchdog: dev packages ## Make workers hang HANGS=20 times in each way, on a booted machine (as root): each must recover
	$(SUDO) $(BIN)/python -m bench.watchdog --hangs $(HANGS)

.PHONY: bench-install
bench-install: DEBIAN_PACKAGES += debootstrap mount systemd-container
bench-install: dev packages ## Measure the time from an installation to a ready worker (as root; about 2 min)
	$(SUDO) $(BIN)/python -m bench.install

MINUTES ?= 30

.PHONY: soak
soak: dev ## Run a load over bad connections for MINUTES=30, and report processes that grow
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

.PHONY: chaos
chaos: dev ## Run 100,000 jobs through 500 faults (about 15 min; STOCKWORKER_SEED=N repeats the faults)
	$(BIN)/python -m tests.chaos

ATTACKS ?=

.PHONY: attack
attack: dev ## Run the attacks of tests/hostile beside honest work, and report what honest clients notice (ATTACKS="word …")
	PYTHONPATH=packaging $(BIN)/python -m bench.attacks $(ATTACKS)

# From the command line, MINUTES has precedence over this.
fuzz: MINUTES := 1

.PHONY: fuzz
fuzz: dev ## Fuzz every parser of untrusted bytes for MINUTES=1 each, from a random seed (tests/fuzz)
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

.PHONY: fuzz-ci
fuzz-ci: dev ## Fuzz every parser for a minute at most, with the same mutants each time
	@$(BIN)/python -m tests.fuzz --seed 1 --calls 80000000 --minutes 1

MODULES ?=
SAMPLES ?= 10
SEED ?=

# The command line sets MINUTES; the default of other targets is not meant.
mutation: MINUTES :=

.PHONY: mutation
mutation: dev ## Try mutants of the modules that decide (MODULES="dispatcher/* …", SAMPLES=10 each, SEED=N, BASE=commit, MINUTES=N)
	@set -f; $(BIN)/python -m tests.mutation $(MODULES) --samples $(SAMPLES) $(if $(SEED),--seed $(SEED)) \
	    $(if $(BASE),--changed-since $(BASE)) $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: mutation-ci
mutation-ci: dev ## Try the same few mutants each time, of the modules that have changed (BASE=commit; 3 min of mutants)
	@$(BIN)/python -m tests.mutation --samples 3 --seed 1 --minutes 3 --changed-since $(BASE)

HOURS ?= 100

.PHONY: simulate
simulate: dev ## Simulate HOURS=100 hours of faults, from a random seed (docs/simulation.md)
	@$(BIN)/python -m tests.simulation --hours $(HOURS)

.PHONY: simulate-ci
simulate-ci: dev ## Simulate 500 hours of faults, from a fixed seed
	@$(BIN)/python -m tests.simulation --hours 500 --seed 1

.PHONY: simulate-nightly
simulate-nightly: dev ## Simulate 10,000 hours of faults, from a random seed
	@$(BIN)/python -m tests.simulation --hours 10000

.PHONY: docs
docs: dev ## Write the generated documents
	$(BIN)/python -m docs.generate

LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
	--python-version 3.11 --quiet

.PHONY: lock
lock: dev ## Resolve the locked dependencies again
	$(LOCK) pyproject.toml --all-extras --group dev --upgrade --output-file requirements/dev.lock
	$(LOCK) requirements/debian-12.in --override requirements/debian-12.override --upgrade --output-file requirements/debian-12.lock
	$(LOCK) requirements/debian-13.in --upgrade --output-file requirements/debian-13.lock
	$(LOCK) requirements/packaging.in --upgrade --output-file requirements/packaging.lock
	$(LOCK) requirements/ansible.in --upgrade --output-file requirements/ansible.lock
	$(LOCK) requirements/site.in --upgrade --output-file requirements/site.lock
	$(LOCK) requirements/peers.in --upgrade --output-file requirements/peers.lock

.PHONY: clean
clean: ## Remove everything that the targets made
	rm -rf $(VENV) .venv-* .tools dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .mutation fuzz-findings
