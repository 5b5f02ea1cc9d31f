# `make demo` and `make test` are all a new machine needs; `make help` lists the rest.
VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --quiet --disable-pip-version-check install
# How many tests run side by side: one more than there are cores, as many of them wait for other processes.
JOBS ?= 3

ORCHESTRATORS := airflow dagster dbt prefect

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-orchestrators check lint types lock-check format lock each-python planted-bugs notebook notebooks-refresh pictures bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/run.done ## copy the sandbox's customers into DuckDB and show them; no account needed
	@$(BIN)/python pipelines/customers.py --sandbox
	@$(BIN)/python pipelines/query.py --sandbox
	@printf '\nNext, after "source $(BIN)/activate":\n%s\n%s\n%s\n' \
	  '  python pipelines/query.py --sandbox --csv "select customer_code from customers limit 25" > customers.csv' \
	  '  python pipelines/bulk.py run risk-action customers.csv --risk-action allow --sandbox' \
	  '  make notebook'

test: $(VENV)/dev.done ## the whole test suite
	@$(BIN)/python -m pytest -n $(JOBS)

test-orchestrators: $(ORCHESTRATORS:%=$(VENV)/%.done) ## run examples/ in Airflow, Dagster and Prefect, and the recipe for dbt, on the sandbox
	@$(BIN)/python -m pytest -n $(JOBS) --dist=load examples

check: lint types lock-check ## lint, format, strict types, pinned requirements in step

lint: $(VENV)/dev.done ## lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/dev.done ## strict type check of the package and the pipelines
	@$(BIN)/mypy

format: $(VENV)/dev.done ## format and apply safe fixes
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

each-python: $(VENV)/dev.done ## try the wheel with each Python that is here, and with the oldest requirements (minutes)
	@.ci/each-python

planted-bugs: $(VENV)/dev.done ## plant known bugs, one at a time, and see that the tests notice each (hours)
	@$(BIN)/python tests/planted_bugs.py $(BUGS)

notebook: $(VENV)/notebook.done ## open the notebooks
	@$(BIN)/jupyter lab notebooks/customers.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks-refresh: $(VENV)/dev.done ## run the notebooks on invented customers and keep what they show
	@$(BIN)/python notebooks/refresh.py

pictures: $(VENV)/dev.done ## make the pictures of the README from what the commands print, and the plot from the benchmarks
	@$(BIN)/python -m tests.docs.pictures
	@cd benchmarks && ../$(BIN)/python -c "import plot; plot.draw()"

bench: $(VENV)/dev.done ## all benchmarks, side by side with the peers (long)
	@$(BIN)/python benchmarks/run.py

LOCKED = dev run notebook oldest $(ORCHESTRATORS)
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet
COMPILE_DEV = $(COMPILE) --all-extras --group dev
COMPILE_RUN = $(COMPILE) --extra sandbox --group build -c requirements/dev.txt
COMPILE_NOTEBOOK = $(COMPILE) --extra sandbox --extra notebook --group build -c requirements/dev.txt
COMPILE_OLDEST = $(COMPILE) --extra sandbox --resolution lowest-direct
COMPILE_ORCHESTRATOR = $(COMPILE) --extra sandbox --group build

lock: $(VENV)/dev.done ## pin the requirements again from pyproject.toml
	@$(COMPILE_DEV) -o requirements/dev.txt
	@$(COMPILE_RUN) -o requirements/run.txt
	@$(COMPILE_NOTEBOOK) -o requirements/notebook.txt
	@$(COMPILE_OLDEST) -o requirements/oldest.txt
	@for f in $(ORCHESTRATORS); do $(COMPILE_ORCHESTRATOR) --group $$f -o requirements/$$f.txt; done

lock-check: $(VENV)/dev.done ## fail if the pinned requirements are not what pyproject.toml asks for
	@for f in $(LOCKED); do cp requirements/$$f.txt $(VENV)/$$f.check; done
	@$(COMPILE_DEV) -o $(VENV)/dev.check
	@$(COMPILE_RUN) -o $(VENV)/run.check
	@$(COMPILE_NOTEBOOK) -o $(VENV)/notebook.check
	@$(COMPILE_OLDEST) -o $(VENV)/oldest.check
	@for f in $(ORCHESTRATORS); do $(COMPILE_ORCHESTRATOR) --group $$f -o $(VENV)/$$f.check; done
	@for f in $(LOCKED); do \
	  grep -vE '^ *#' $(VENV)/$$f.check > $(VENV)/$$f.new; grep -vE '^ *#' requirements/$$f.txt > $(VENV)/$$f.old; \
	  diff -q $(VENV)/$$f.old $(VENV)/$$f.new >/dev/null || \
	    { echo "requirements/$$f.txt is not in step with pyproject.toml: run 'make lock'"; exit 1; }; done

$(BIN)/python:
	@.ci/venv $(VENV)

# Hashes are checked for every package; the package itself is built without fetching anything more.
$(VENV)/run.done: requirements/run.txt pyproject.toml | $(BIN)/python
	@$(PIP) --require-hashes -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/run.done
	@echo "installing the tools for tests and checks (a minute or two, once) ..." >&2
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/notebook.done: requirements/notebook.txt $(VENV)/run.done
	@echo "installing what the notebooks need (a minute, once) ..." >&2
	@$(PIP) --require-hashes -r requirements/notebook.txt
	@touch $@

# An orchestrator may want other versions than we do. uv checks the hashes as pip does, in seconds instead of minutes.
$(ORCHESTRATORS:%=$(VENV)/%.done): $(VENV)/%.done: requirements/%.txt pyproject.toml | $(VENV)/dev.done
	@echo "installing $* (half a minute, once) ..." >&2
	@rm -rf $(VENV)/$* && $(BIN)/python -m venv --without-pip $(VENV)/$*
	@$(BIN)/uv pip install --quiet --python $(VENV)/$*/bin/python --require-hashes -r $<
	@$(BIN)/uv pip install --quiet --python $(VENV)/$*/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## remove the environment and caches (never data)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
