# Every target installs what it needs, given Python >= 3.11, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# Tests are many small jobs: two workers with one thread each are faster than two threads that wait for each other.
# A file stays with one worker, so that what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Programs that tests/peers talks to, in an environment of their own.
PEERS := build/peers

KILLS := 50
SEED := 0

.DEFAULT_GOAL := help
.PHONY: help demo test test-integration test-peers test-slow check fuzz fuzz-short chaos bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## create a synthetic abdomen, train, predict and evaluate; writes demo/ with an HTML report
	$(BIN)/attunet demo -o demo

test: $(READY) ## all tests that take seconds at most
	$(PYTEST) -n 2 --dist loadfile

test-integration: $(READY) ## tests of whole trainings, exports, servers and clusters, many seconds each
	$(PYTEST) -n 2 --dist loadfile -m "integration and not slow"

test-peers: $(READY) ## tests against Orthanc, dcmtk, dcmqi and plastimatch on this machine; installs them where it may
	tests/peers/install.sh $(BIN)/python $(PEERS)
	$(PYTEST) -m peers tests/peers

test-slow: $(READY) ## tests that take minutes: real training runs on ../shared/data
	$(BIN)/python -m pytest -m slow

check: $(READY) ## style, types, import rules, contract tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -n 2 tests/contracts

fuzz: $(READY) ## give every reader 20,000 damaged files, takes minutes (FUZZ="--inputs 100000 --seed 1 --keep")
	OMP_NUM_THREADS=1 $(BIN)/python fuzz/run.py $(FUZZ)

fuzz-short: $(READY) ## a part of fuzz in about 20 seconds
	OMP_NUM_THREADS=1 $(BIN)/python fuzz/run.py --inputs 2000 --seconds 20

chaos: $(READY) ## kill train, predict, select and export 50 times at random moments, takes minutes (KILLS=200 SEED=1)
	OMP_NUM_THREADS=1 $(BIN)/python chaos/run.py --kills $(KILLS) --seed $(SEED)

bench: $(READY) ## measure attunet, MONAI and nnU-Net, takes hours; updates docs/benchmarks.md (BENCH="--only window")
	$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## remove caches, build products and the demo, but not the environment (rm -r .venv)
	rm -rf demo build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks fuzz chaos -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship Python without ensurepip; there the system's pip installs pip into the environment.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
		"attunet needs Python >= 3.11, got %d.%d; run make PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(BIN)/python && $(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@echo "installing into $(VENV), once: this takes a few minutes"
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	@touch $@
