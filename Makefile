# The two commands of a fresh machine: `make demo` and `make test`. Everything they need is installed by them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo/env
# The project's own caches, so that a checkout leaves nothing outside itself.
export MMDOCTOR_CACHE ?= $(CURDIR)/.mmdoctor/cache
export MMDOCTOR_TEST_ENV ?= $(CURDIR)/$(DEMO)

.PHONY: help install provision demo test test-fast test-real evidence lint bench bench-second bench-builds bench-resolve bench-gates wheel docs clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable . --group dev
	touch $@

install: $(BIN)/.installed

demo: provision ## provision a CPU environment in .demo/env and infer with it
	@$(BIN)/mmdoctor bench --env $(DEMO) --runs 5

provision: install
	@mkdir -p $(dir $(DEMO))
	@$(BIN)/mmdoctor fix --env $(DEMO) --apply --yes

test: provision ## the fast tests and the essential real ones (20 minutes on a fresh machine)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not essential and not real and not evidence"
	$(BIN)/python -m pytest -q -m essential --durations=6

test-fast: install ## offline; about a minute on two idle cores
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not essential and not real and not evidence"

test-real: provision ## the long real ones (most of an hour on two idle cores)
	$(BIN)/python -m pytest -q -m real --durations=12

evidence: provision ## hours: every fault of docs/chaos.md, 300 kills, 3,000 machines, the emitted script; writes docs/chaos.md
	MMDOCTOR_CHAOS_TABLE=docs/chaos.md $(BIN)/python -m pytest -q -m evidence
	$(BIN)/python -m pytest -q -n auto --hypothesis-profile thorough -m hypothesis

lint: install ## ruff, mypy --strict, the matrix
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mmdoctor matrix lint

docs: install ## write docs/checks/, docs/{causes,matrix,builds,annotations}.md and the JSON Schemas from code and matrix
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/schemas.py

bench: install ## times of check and fix against what users run today
	$(BIN)/python benchmarks/speed.py --env $(DEMO) --runs 5

bench-second: provision ## a second environment, mmcv from the wheel cache, against the bare install and smoke
	$(BIN)/python benchmarks/second.py --env $(DEMO)

bench-builds: provision ## a compile by mmdoctor against plain `pip wheel` (25 minutes of two cores)
	$(BIN)/python benchmarks/builds.py --env $(DEMO)

bench-resolve: install ## times of the resolver: the matrix, one machine, three thousand
	$(BIN)/python benchmarks/resolve.py

bench-gates: provision ## what a gate costs against `pip check`
	$(BIN)/python benchmarks/gates.py --env $(DEMO)

wheel: install ## build the wheel
	$(BIN)/uv build --wheel

clean: ## remove what the targets made
	rm -rf $(VENV) .demo .mmdoctor dist
