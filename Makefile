# `make help` says what there is. On a fresh machine nothing else is needed: `make demo`, `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env programs demo test suite runs parts soak bench airflow check lint types format lock checkpoints clean

# The first of these that runs: a name on the PATH may belong to a version manager that has no such Python.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do "$$p" -c '' 2>/dev/null && echo "$$p" && break; done)
# build.py itself says it of any Python that can read it.
MODERN := import sys; sys.exit(sys.version_info < (3, 7))
BIN := .venv/bin

# What a shell may carry that would change what runs: other modules, another cluster, another account.
UNSET := PYTHONPATH PYTHONHOME PYTHONSTARTUP RAY_ADDRESS AWS_PROFILE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
# Nothing is fetched, and nobody is told, once the environment is there.
RUN := env $(UNSET:%=-u %) HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 \
	RAY_USAGE_STATS_ENABLED=0

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

env: ## Build or mend .venv (4.5 GB, some minutes the first time, instant after that)
	@"$(PYTHON)" -c '$(MODERN)' 2>/dev/null || { echo 'environment: Python 3.11 or 3.12 is needed, and' \
		'"$(PYTHON)" is none; install python3.11, or say where it is: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@"$(PYTHON)" deploy/environment/build.py

# Of Debian; as root. Without an index its lists are fetched first.
programs: ## Install Chromium and Prometheus, which some tests drive; those are skipped without
	@command -v chromium > /dev/null && command -v prometheus > /dev/null && exit 0; export DEBIAN_FRONTEND=noninteractive; \
		install() { apt-get install --yes -qq --no-install-recommends chromium prometheus > /dev/null; }; \
		install 2> /dev/null || { apt-get update -qq && install; }

demo: env ## Run the main job over the example documents, from and to a real S3 server
	@$(RUN) $(BIN)/python -m deploy.demo

# Side by side: runs wait for half of their time, and what is tested in parts takes one core meanwhile. Two files
# of runs are beside the parts, so that both end at about the same time.
RUNS := tests/chaos $(filter-out %/test_cli.py %/test_faults.py,$(wildcard tests/flow/test_*.py))
test: env ## Everything: the checks, and the whole suite, real S3 and real vLLM included
	@$(MAKE) --no-print-directory --jobs 3 check $(if $(ARGS),suite,runs parts)

suite: env ## The suite alone, or of it what ARGS names
	@$(RUN) $(BIN)/python -m pytest $(ARGS)

runs: env
	@$(RUN) $(BIN)/python -m pytest $(RUNS)

parts: env
	@$(RUN) $(BIN)/python -m pytest tests $(RUNS:%=--ignore %)

soak: env ## A quarter of an hour of random faults over 20,000 documents; prints what was lost
	@$(RUN) $(BIN)/python -m tests.chaos.soak $(ARGS)

# Daft lies beside the environment, without what it asks for, which would turn pyarrow back; without an index
# to have it from, its row is left out and says so.
bench: env ## Us against the bare libraries and others, in turns; prints one table
	@test -d .venv/bench/daft || $(BIN)/python -m pip install --quiet --no-deps --require-hashes \
		--target .venv/bench -r tests/benchmarks/daft.lock || true
	@$(RUN) $(BIN)/python -m tests.benchmarks $(ARGS)

# Its 128 packages want versions of ours that we do not, so it has an environment beside ours.
airflow: env ## Airflow beside the environment (300 MB), with which `make test` tests the DAG as well
	@test -x .venv/airflow/bin/airflow || { $(BIN)/python -m venv .venv/airflow && \
		.venv/airflow/bin/python -m pip install --quiet --no-deps --require-hashes \
		-r deploy/airflow/requirements.lock; }

check: lint types ## Lint, formatting, types and layers

lint: env
	@$(RUN) $(BIN)/ruff check .
	@$(RUN) $(BIN)/ruff format --check .
	@$(RUN) $(BIN)/lint-imports --no-cache
	@$(BIN)/hadolint deploy/Dockerfile

types: env
	@$(RUN) $(BIN)/mypy

format: env ## Put the code in the house's format
	@$(RUN) $(BIN)/ruff check --fix .
	@$(RUN) $(BIN)/ruff format .

lock: env ## Resolve the versions of pyproject.toml anew into the lock files
	@$(BIN)/python deploy/environment/lock.py

checkpoints: env ## Train the demo's two checkpoints from nothing; a stopped run goes on
	@$(RUN) $(BIN)/python -m deploy.demo.training $(ARGS)

clean: ## Remove what make made here, the environment included
	rm -rf .venv demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
