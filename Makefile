# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check lint types unit bench test-net clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/'

setup: $(STAMP) ## Create .venv with everything that the project needs

# uv installs, because it can override libp2p's pin of a package without wheels (see pyproject.toml).
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments here; on Debian: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
	@touch $@

demo: setup ## Back up real files, destroy the laptop, restore on a new device
	@$(BIN)/sovereign-devnet demo

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/pytest -q -n 2 -m "not slow and not processes and not root"

check: lint types unit ## The gate: format, lint, types, import rules, unit tests

test: setup ## All that CI runs
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered -m "not root"

test-net: setup ## Paths through routers in network namespaces (root, iproute2, nftables)
	$(BIN)/pytest -n 3 --dist loadfile -m root

bench: setup ## Speed as ratios to floors and peers of the same run (BENCH="--only transport --quick")
	$(BIN)/sovereign-devnet bench $(BENCH)

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
