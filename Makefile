# Strongroom's front door: `make` lists what there is.
#
# Everything runs in .venv, which tools/venv.py makes and fills from the hashed pins in
# requirements/. Nothing is needed beforehand but Python 3.11 or newer, and make.

PYTHON ?= python3
HOST ?= localhost
PORT ?= 8000
WORKERS ?= 2
ARGS ?=
UPGRADE ?=

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Pins are for every platform and every Python from ours on, and name no registry.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make pins" \
	$(if $(UPGRADE),--upgrade)
# pyright's wrapper would otherwise ask the network whether there is a newer pyright.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check format pins screenshots simulate races
.PHONY: bench bench-quick bench-served bench-page instructions scale audit-real clean
.PHONY: check-format check-lint check-mypy check-pyright check-house
.PHONY: python venv-demo venv-dev venv-peers

help: ## List the targets
	@echo "Strongroom. Start with: make demo"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s%s\n", $$1, $$2}'
	@echo
	@echo "Variables: PYTHON=python3.12, HOST=localhost, PORT=8000, WORKERS=2, ARGS='-k cookie'"

demo: venv-demo ## Install what the demo needs (once) and run the bank on http://localhost:8000
	@exec $(BIN)/python -m examples.bank --host $(HOST) --port $(PORT)

test: venv-dev ## Run every test (ARGS= goes to pytest)
	@echo "test: the whole suite, on $(WORKERS) workers"
	@$(PYTEST) -n $(WORKERS) --dist loadgroup $(ARGS)

test-fast: venv-dev ## Run the tests that take less than a breath: no slow ones, no browser, no pages
	@echo "test-fast: all but slow and browser tests, and what 'make check' runs, on $(WORKERS) workers"
	@$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not slow and not browser" --ignore=tests/house $(ARGS)

check: check-format check-lint check-mypy check-pyright check-house ## Format, lint, types, layers, public API, documentation (may run with -j)

check-format: venv-dev
	@echo "check: format (ruff; 'make format' mends it)"
	@$(BIN)/ruff format --quiet --diff .

check-lint: venv-dev
	@echo "check: lint (ruff)"
	@$(BIN)/ruff check --quiet .

check-mypy: venv-dev
	@echo "check: types (mypy, strict)"
	@$(BIN)/mypy

check-pyright: venv-dev
	@echo "check: types as users see them (pyright, strict)"
	@$(BIN)/pyright

check-house: venv-dev
	@echo "check: layers, public API, documentation (tests/house)"
	@$(PYTEST) -q -m "not slow" tests/house

format: venv-dev ## Format the code, and mend what the linter can mend by itself
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

pins: venv-dev ## Write requirements/*.txt anew; UPGRADE=1 moves every pin to its newest release
	@echo "pins: requirements/dev.txt, then its subsets at the same versions"
	@$(COMPILE) pyproject.toml --all-extras requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --all-extras requirements/dev.in requirements/peers.in -c requirements/dev.txt -o requirements/peers.txt
	@$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml --extra demo -c requirements/dev.txt -o requirements/demo.txt
	@$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt

screenshots: venv-dev ## Take the pictures of the demo that README and docs show
	@$(BIN)/python -m examples.bank.screenshots

simulate: venv-dev ## Honest people and thieves, by the thousand: who is noticed, and who is bothered
	@$(BIN)/python -m simulation $(ARGS)

races: venv-peers ## Two overlapping requests against us and against our peers, one table
	@$(BIN)/python -m bench.races $(ARGS)

bench: venv-peers ## What a session costs a request, ours beside the peers (some minutes)
	@$(BIN)/python -m bench.cost $(ARGS)

bench-quick: venv-peers ## The same with fewer rounds, in less than two minutes
	@$(BIN)/python -m bench.cost --quick $(ARGS)

bench-served: venv-peers ## Under a real server: ARGS="--server granian --rounds 3"
	@$(BIN)/python -m bench.cost.served $(ARGS)

bench-page: venv-peers ## Run what docs/performance.md shows, and draw it anew (ten minutes)
	@$(BIN)/python -m bench.cost --cpu --rounds 31 --save
	@$(BIN)/python -m bench.cost.served --save
	@$(BIN)/python -m bench.cost.storms --save
	@$(BIN)/python -m bench.cost.growth --save
	@$(BIN)/python -m bench.cost.page --write

instructions: venv-dev ## Count the hot path's processor instructions; fails where they grew (needs valgrind)
	@$(BIN)/python -m bench.cost.instructions $(ARGS)

scale: venv-dev ## What a session weighs and an op costs among ten thousand, and among a million (ARGS=)
	@$(BIN)/python -m bench.scale $(ARGS)

audit-real: venv-dev ## Install real applications from the registries, audit each on loopback, compare with docs/audit-real.md
	@$(BIN)/python -m tests.audit.real $(ARGS)

clean: ## Remove caches and build results; .venv stays
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests examples docs tools simulation bench -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python that is missing or too old must be told in words, before it meets code it cannot parse.
python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Strongroom needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12" >&2; exit 1; }

venv-demo: python
	@$(PYTHON) tools/venv.py demo

venv-dev: python
	@$(PYTHON) tools/venv.py dev

venv-peers: python
	@$(PYTHON) tools/venv.py peers
