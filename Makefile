# make help lists the targets. Needs Python 3.11 to 3.13, make and PyPI; everything else lands in .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check live recipes bench

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13), "tunemill needs Python 3.11 to 3.13: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/demo.installed: .venv/bin/uv pyproject.toml constraints.txt
	@echo "Installing tunemill and the trainer into .venv (PyTorch is large: some minutes the first time) ..."
	$(INSTALL) '.[demo]'
	@touch $@

.venv/dev.installed: .venv/bin/uv pyproject.toml constraints.txt
	@echo "Installing tunemill with everything that its tests need into .venv ..."
	$(INSTALL) '.[dev]'
	@touch $@ .venv/demo.installed

setup: .venv/dev.installed  ## install everything into .venv

demo: .venv/demo.installed  ## the whole loop on sample logs, then a server to look at
	$(BIN)/tunemill demo $(ARGS)

up: .venv/demo.installed  ## an empty server on the embedded engines
	$(BIN)/tunemill up $(ARGS)

test: .venv/dev.installed  ## all tests, in two processes; the live ones with real Kafka and Elasticsearch where they can be had
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

live: .venv/dev.installed  ## only the tests that need real Kafka and Elasticsearch
	$(BIN)/pytest -m live $(ARGS)

check: .venv/dev.installed  ## format, lint, types and import contracts, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

recipes: .venv/dev.installed  ## what is made from the knobs of training recipes: schema, commented file, the page's table
	$(BIN)/python -m tunemill.trainer.recipe_schema trainer/recipes docs/recipes.md

bench: .venv/dev.installed  ## every benchmark, with the sample logs as input; the last ones need real Kafka and Elasticsearch
	for name in decode sdk ingest "ingest --engine stub" latency profile search snapshot dedup backfill bulk reindex prepare train memory scan relevance \
		"ingest --engine elasticsearch" "latency --engine elasticsearch" "search --engine elasticsearch" \
		"reindex --engine elasticsearch"; \
		do $(BIN)/python -m benchmarks.$$name --json || exit 1; done
