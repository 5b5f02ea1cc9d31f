# `make demo` and `make test` are all a new machine needs; `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many tests run side by side.
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format types lock lock-check notebook bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/run.done ## copy the sandbox's customers into DuckDB and show them; no account needed
	@$(BIN)/python pipelines/customers.py --sandbox

test: $(VENV)/dev.done ## the whole test suite
	@$(BIN)/python -m pytest -n $(JOBS)

check: lint types lock-check ## lint, format, strict types, pinned requirements in step

lint: $(VENV)/dev.done ## lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/dev.done ## format and apply safe fixes
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(VENV)/dev.done ## strict type check of the package and the pipelines
	@$(BIN)/mypy

notebook: $(VENV)/dev.done ## open the notebooks
	@$(BIN)/jupyter lab notebooks

bench: $(VENV)/dev.done ## all benchmarks, side by side with the peers (long)
	@$(BIN)/python benchmarks/run.py

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet

lock: $(VENV)/dev.done ## pin the requirements again from pyproject.toml
	@$(COMPILE) --all-extras --group dev -o requirements/dev.txt
	@$(COMPILE) --extra sandbox -c requirements/dev.txt -o requirements/run.txt

lock-check: $(VENV)/dev.done ## fail if the pinned requirements are not what pyproject.toml asks for
	@cp requirements/dev.txt $(VENV)/dev.check && cp requirements/run.txt $(VENV)/run.check
	@$(COMPILE) --all-extras --group dev -o $(VENV)/dev.check
	@$(COMPILE) --extra sandbox -c requirements/dev.txt -o $(VENV)/run.check
	@for f in dev run; do grep -vE '^ *#' $(VENV)/$$f.check > $(VENV)/$$f.new; grep -vE '^ *#' requirements/$$f.txt > $(VENV)/$$f.old; \
	  diff -q $(VENV)/$$f.old $(VENV)/$$f.new >/dev/null || { echo "requirements/$$f.txt is not in step with pyproject.toml: run 'make lock'"; exit 1; }; done

$(VENV)/run.done: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/run.done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

clean: ## remove the environment and caches (never data)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
