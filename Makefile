# Everything runs from a virtual environment in .venv; nothing is installed elsewhere but a missing JDK or Maven.
PYTHON ?= python3
BIN := .venv/bin
AUTOGLM := $(BIN)/autoglm
.DEFAULT_GOAL := help

.PHONY: help setup demo run test lint bench chaos gpu-check kernels schemas lock train-demo clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/ready ## virtual environment, locked dependencies, broker files
	@.ci/prerequisites
	@$(AUTOGLM) broker fetch

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || { echo "python3 cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing the locked dependencies into .venv (about a minute the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## broker, daemon and a customer-service desk: see requests answered
	@$(AUTOGLM) demo

run: setup ## keep a broker and the daemon with the demo desk up; then: .venv/bin/autoglm ask "…"
	@AUTOGLM_TOOLS__MODULES='["daemon.demo.desk"]' $(AUTOGLM) run --with-broker

test: setup lint ## every test that can run here; says what it skipped and why
	@$(BIN)/python -m pytest

lint: .venv/ready ## format, lint, types
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

bench: setup ## the figures of the README, measured here
	@$(BIN)/python -m tests.bench

chaos: setup ## many rounds of every fault, N=10 of each, and a table; SEED=, LOAD= and ONLY="kill" choose
	@$(BIN)/python -m tests.faults --rounds $(or $(N),10) --load $(or $(LOAD),4) $(if $(SEED),--seed $(SEED)) --only "$(ONLY)"

gpu-check: setup ## on a GPU host: the tests that need one, and what they measure there (ten minutes and more)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[gpu]'
	@AUTOGLM_TEST_GPU=required $(BIN)/python -m pytest tests/gpu --timeout 1800

kernels: .venv/ready ## compile the GPU kernels to the PTX that the package ships
	@$(BIN)/python -m engines.serve.kernels.nvrtc

schemas: .venv/ready ## write schemas/json anew
	@$(BIN)/python -m schemas.export

LOCK := uv pip compile --quiet --no-emit-index-url --generate-hashes --universal --python-version 3.11 \
	--custom-compile-command "make lock" pyproject.toml

lock: ## pin the newest versions that pyproject.toml allows (needs uv): here, and the same for the service
	$(LOCK) --upgrade --extra test -o requirements.lock
	$(LOCK) --extra redis --extra postgresql --constraints requirements.lock -o systemd/requirements.lock

train-demo: .venv/ready ## train the bundled model anew (installs PyTorch into .venv)
	@$(BIN)/pip install --quiet -e '.[train]'
	@OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 -m engines.demo.train --out engines/demo/model

clean: ## remove the virtual environment and caches of this checkout
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
