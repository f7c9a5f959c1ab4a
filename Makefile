# Andon. `make run` shows the whole thing on this machine; `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help run clean-run test peers check device-table format lock simulate simulate-kills simulate-mutants kill-test power-cuts disk-full \
  moods late-answers storm noise fuzz bench soak try-profiles

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	@deploy/prerequisites "$(PYTHON)"
	@echo "Making a virtual environment in $(VENV) ..."
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed-run: deploy/requirements.lock pyproject.toml | $(VENV)/bin/python
	@deploy/install $(BIN)/python deploy/requirements.lock
	@touch $@

$(VENV)/.installed-dev: deploy/requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@deploy/install $(BIN)/python deploy/requirements-dev.lock
	@touch $@ $(VENV)/.installed-run

# Clashes with what we need: it asks for paho-mqtt 1, we for 2.
$(VENV)-sparkplug/.installed: deploy/requirements-sparkplug.lock | $(VENV)/bin/python
	@"$(PYTHON)" -m venv $(VENV)-sparkplug
	@echo "Installing a Sparkplug publisher for the tests in $(VENV)-sparkplug ..."
	@$(VENV)-sparkplug/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes \
	  -r deploy/requirements-sparkplug.lock
	@touch $@

run: $(VENV)/.installed-run ## a collector, a simulated warehouse and an edge agent on this machine
	@exec $(BIN)/python -m deploy.demo

clean-run: ## forget what earlier runs stored, then run
	@rm -rf .andon
	@$(MAKE) --no-print-directory run

peers: $(VENV)-sparkplug/.installed ## the programs of other makers that the tests talk to
	@deploy/test-prerequisites

test: $(VENV)/.installed-dev peers ## everything that CI runs: format, lint, types, import laws, all tests
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PROOFS:%=--ignore=%)
	@$(BIN)/python -m pytest $(PROOFS)
# Much of the suite waits. 0: all in one process, for a debugger.
WORKERS := 2
# One process has to see all that the device table is made of.
PROOFS := tests/device_profiles tests/peers

check: $(VENV)/.installed-dev ## format, lint, types, import laws, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m edge_agent profile schema --check

# ONLY=tests/... of a new device: adds what those tests prove; the whole run also takes out what is proven no more.
device-table: $(VENV)/.installed-dev peers ## run all simulators and peers, and write down what that has proven
	@PROVEN=write $(BIN)/python -m pytest $(or $(ONLY),tests/device_profiles/simulators tests/peers) \
	  tests/device_profiles/test_device_table.py -q

format: $(VENV)/.installed-dev ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# ONLY=zebra-* those of that name. Those of a transport that nobody stands in for are passed over.
try-profiles: $(VENV)/.installed-dev ## every example of every profile over a real line, said by a stand-in; some minutes
	@for file in device_profiles/$(or $(ONLY),*).yaml; do \
	  $(BIN)/python -m edge_agent profile try $$file --simulate | grep -v "not raised, raised, cleared"; \
	  [ $${PIPESTATUS[0]} != 1 ] || exit 1; done

kill-test: $(VENV)/.installed-dev ## kill -9 of the agent, the collector, PostgreSQL, one of three collectors: KILLS times each, under load
	@KILLS=$(KILLS) $(BIN)/python -m pytest tests/kills tests/stories/test_three_collectors_on_one_database.py -q -s --timeout=0
KILLS := 300

power-cuts: $(VENV)/.installed-dev ## journal, evidence, collector after IMAGES power cuts and FLIPS flipped bits
	@PYTHONPATH=.:tests $(BIN)/python -m powercut --images $(IMAGES) --flips $(FLIPS)
IMAGES := 5000
FLIPS  := 600

disk-full: $(VENV)/.installed-dev ## the journal after FURTHER changes on a full disk, CORRUPTIONS of its file, SALVAGE_KILLS
	@FURTHER=$(FURTHER) CORRUPTIONS=$(CORRUPTIONS) SALVAGE_KILLS=$(SALVAGE_KILLS) \
	  $(BIN)/python -m pytest tests/edge_agent/test_journal_disk.py tests/edge_agent/test_journal_salvage.py -q --timeout=0
FURTHER       := 10000
CORRUPTIONS   := 700
SALVAGE_KILLS := 27

late-answers: $(VENV)/.installed-dev ## LATE readings of units that answer late, over RTU, a device server and TCP: none may be another's
	@LATE_ANSWERS=$(LATE) $(BIN)/python -m pytest tests/edge_agent/transports/test_late_answers.py -q -s --timeout=0
LATE := 10000

moods: $(VENV)/.installed-dev ## every transport on wires that lose, tear and break, MOOD_SEEDS of each
	@MOOD_SEEDS=$(MOOD_SEEDS) $(BIN)/python -m pytest tests/edge_agent/transports/test_moods.py -q --timeout=0 \
	  -k "mood_is_over and (lossy or unplugged)"
MOOD_SEEDS := 20

STORM = PYTHONPATH=.:tests $(BIN)/python -m storm
storm: $(VENV)/.installed-dev ## GATEWAYS=1000 come back at once with ROWS=100 each, HEAVY=5 of them with 100,000 (POSTGRES=1)
	@$(STORM) --gateways $(or $(GATEWAYS),1000) --rows $(or $(ROWS),100) --heavy $(or $(HEAVY),5) \
	  --seconds $(or $(SECONDS_AT_MOST),180) $(if $(POSTGRES),--postgres)

noise: $(VENV)/.installed-dev ## what 50 gateways feel of one that says 100 times as much (ROWS=1 in a message)
	@$(STORM) --noise $(or $(ROWS),1) --turns $(or $(TURNS),3) $(if $(POSTGRES),--postgres)

# ONLY=mqtt those with that in their name. Needs Linux on x86-64: the fuzzer has no wheels elsewhere.
fuzz: $(VENV)/.installed-dev ## every parser of bytes from outside, CASES each, guided by coverage; then the API
	@PYTHONPATH=.:tests $(BIN)/python -m fuzz --cases $(CASES) $(if $(ONLY),--only "$(ONLY)")
	@API_EXAMPLES=$(API_EXAMPLES) $(BIN)/python -m pytest tests/security/test_openapi.py -q --timeout=0
CASES        := 20000
API_EXAMPLES := 100

# SEEDS=2000 how many, FIRST=0 from which on, SEED=7 replays one, ON=1 goes on after a failure.
SIMULATE = PYTHONPATH=.:tests $(BIN)/python -m simulation
simulate: $(VENV)/.installed-dev ## seeded worlds in which everything fails (SEEDS=200, SEED=n replays one, JOBS=n)
	@$(SIMULATE) $(if $(JOBS),--jobs $(JOBS)) \
	  $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200) --first $(or $(FIRST),0) $(if $(ON),--on))

simulate-kills: $(VENV)/.installed-dev ## one short history, killed at every statement and every turn of the loop
	@$(SIMULATE) --everywhere $(if $(JOBS),--jobs $(JOBS))

simulate-mutants: $(VENV)/.installed-dev ## the real code with one rule removed: each must die (SEEDS=60, ONLY=name)
	@$(SIMULATE) --mutants $(if $(JOBS),--jobs $(JOBS)) --seeds $(or $(SEEDS),60) --first $(or $(FIRST),0) \
	  $(if $(ONLY),--only "$(ONLY)")

bench: $(VENV)/.installed-dev ## rates, lists, bytes: one table, a few minutes; see docs/performance.md
	@PYTHONPATH=.:tests $(BIN)/python -m bench

soak: $(VENV)/.installed-dev ## an agent for MINUTES=30 among devices that fault and vanish: memory, descriptors, tasks
	@PYTHONPATH=.:tests $(BIN)/python -m bench.soak --minutes $(MINUTES)
MINUTES      := 30

lock: $(VENV)/.installed-dev ## make the hashed locks anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --all-extras $(LOCK_FLAGS) -o deploy/requirements-dev.lock
	@$(BIN)/uv pip compile pyproject.toml --extra collector --extra demo --extra build $(LOCK_FLAGS) \
	  -c deploy/requirements-dev.lock -o deploy/requirements.lock
	@$(BIN)/uv pip compile --group pyproject.toml:sparkplug-publisher $(LOCK_FLAGS) -o deploy/requirements-sparkplug.lock
LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
