# The front door. Needs Python 3.11 or newer and nothing else of ours.
PORT ?= 8080
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin

# UV_PYTHON_DOWNLOADS: the interpreter is the one that made the environment, never a fetched one.
SYNC := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --locked --inexact --quiet

.PHONY: run test test-vllm bench lint install dev train tryage clean

run: $(VENV)/.installed  ## everything for a first run: environment, embedded models, gateway
	@$(BIN)/thalamus demo --port $(PORT) || [ $$? -eq 130 ]

test: $(VENV)/.installed-dev  ## the whole test suite
	@$(BIN)/python -m pytest

test-vllm: $(VENV)/.installed-dev  ## against real vLLM on the CPU, installed beside (4 GB)
	@sh tests/vllm_servers/make_venv.sh .venv.vllm
	@$(BIN)/python -m pytest -m vllm

bench: $(VENV)/.installed  ## what a request costs, beside nginx and vllm-router where they are installed
	@$(BIN)/thalamus bench --page docs/performance.md

lint: $(VENV)/.installed-dev  ## format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

install: $(VENV)/.installed  ## the environment alone

dev: $(VENV)/.installed-dev  ## the environment with what tests and checks need

train: $(VENV)/.installed  ## train the default router again from the measured losses
	@$(BIN)/thalamus train --data router_models/datasets/expert_library.parquet \
		--out router_models/artifacts/default

tryage: $(VENV)/.installed  ## repeat Tryage's experiment: the table and the figure in docs
	@$(BIN)/python -m router_models.experts experiment

$(VENV)/.installed: pyproject.toml uv.lock
	@sh deploy/make_venv.sh $(VENV) $(UV_VERSION)
	@$(SYNC) --no-dev
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed tests/e2e/node/package-lock.json
	@$(SYNC)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm ci --silent --prefix tests/e2e/node
	@touch $@

clean:
	rm -rf $(VENV) tests/e2e/node/node_modules gateway/console/app/node_modules
