# Every target sets up what it needs. Requirements: Python 3.11+ with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
ENCODER := $(wildcard src/floodmark/native/*.p[yx]? src/floodmark/native/*.h) src/floodmark/version.py
DOCS := $(VENV)/.docs-ready
LINTER := .venv-linter
OLD := .venv-0.1.0
TOOLS := .venv-dist
# The last commit of release 0.1.0. Later ones belong to 0.2.0.
OLD_COMMIT := 5c1128a34180bac0ca7263a1f51537bb43c12ea3
SOAK_MINUTES ?= 60
BOUNDARY_SHARE ?= 1
STYLE := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup

.PHONY: demo quick test docs check linter soak fuzz guards screenshots bench dist clean

demo: $(READY)            ## show three days of an invented service on a real PostgreSQL, in under a minute
	$(BIN)/floodmark demo

quick: $(READY)           ## check style and types, run the unit, contract and format tests; takes a minute or two
	$(STYLE)
	$(PYTEST) tests/unit tests/contract tests/formats

test: $(READY)            ## run the whole test suite on real servers
	$(PYTEST)

# Without --quiet, because it also hides warnings from --strict, and a broken link then passes.
docs: $(DOCS)             ## build the documentation site into site/; fail on a broken link or a missing name
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(READY)           ## run what CI runs: style, types, the documentation site, import direction, tests
	$(STYLE)
	$(MAKE) docs
	$(MAKE) test

linter: $(READY) $(LINTER)/.ready  ## run MoJ's data-linter on landed files, in its own venv; once that venv exists, `make test` runs it too
	$(BIN)/python -m pytest tests/integration/test_data_linter.py

soak: $(READY)            ## run every crash point, BOUNDARY_SHARE of the statement boundaries, and random histories for SOAK_MINUTES; SEED=n replays one
	SOAK_MINUTES=$(SOAK_MINUTES) BOUNDARY_SHARE=$(BOUNDARY_SHARE) SEED=$(SEED) $(BIN)/python -m pytest -m soak -s tests/property tests/fault

fuzz: $(READY)            ## feed the native encoder and decoder invented bytes for FUZZ_SECONDS (600), under AddressSanitizer; needs clang
	$(BIN)/python tests/fuzz

guards: $(READY)          ## remove each guard of change detection in turn; the tests must fail each time
	$(BIN)/python tests/guards.py

screenshots: $(READY)     ## write docs/images: real runs in a terminal, and the report in Chromium if it is installed
	$(BIN)/python tests/screenshots.py
	$(BIN)/python tests/screenshots_report.py

bench: $(READY)           ## compare with pg_dump, psql, dlt, Sling and others; write bench/results/, the chart and the tables
	$(BIN)/python -m bench

dist: $(TOOLS)/.ready    ## build the release from the commit twice, compare, check and try it; write dist/ with a bill of materials and SHA256SUMS
	$(TOOLS)/bin/python ops/release/dist.py

clean:
	rm -rf $(VENV) $(LINTER) $(OLD) $(TOOLS) dist .venv-bench floodmark-demo site

# Build the native encoder again if its source changed. Without a C compiler this prints one line, and the server makes the lines.
$(READY): $(INSTALLED) hatch_build.py $(ENCODER)
	$(BIN)/python hatch_build.py
	touch $@

$(INSTALLED): pyproject.toml tests/servers.txt tests/tools.txt
	@echo "Setting up $(VENV) once. This takes a minute or two."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Floodmark needs Python 3.11 or later. Name one with PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/servers.txt -r tests/tools.txt
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

$(LINTER)/.ready: tests/linter.txt
	@echo "Setting up $(LINTER) once. This takes a minute."
	$(PYTHON) -m venv --clear $(LINTER)
	$(LINTER)/bin/python -m pip install --quiet --requirement tests/linter.txt
	touch $@

# Release 0.1.0 from this repository's history, for the tests of upgrades and downgrades.
$(OLD)/.ready:
	@echo "Setting up $(OLD) once. This takes a minute."
	$(PYTHON) -m venv --clear $(OLD)
	mkdir $(OLD)/release
	git archive $(OLD_COMMIT) | tar -x -C $(OLD)/release
	$(OLD)/bin/python -m pip install --quiet '$(OLD)/release[duckdb,zstd]'
	touch $@

$(TOOLS)/.ready: ops/release/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' -r ops/release/tools.txt
	touch $@
