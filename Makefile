# Two commands do all the set-up: `make demo` and `make test`. Both make .venv first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TRANSPORT ?= grpc
PYTEST_ARGS ?= -n 3 --dist worksteal
SOAK_SEEDS ?= 20
STUDY_ARGS ?=

.PHONY: demo test soak check format bench study simulation oracle oracle-bench protos clean mosquitto

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[demo]' --group dev
	@touch $@ $(VENV)/.demo

$(VENV)/.simulation: $(VENV)/.dev
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --group simulation
	@touch $@

# The protocol's own clients live apart: their messages and ours bear the same names.
$(VENV)-conformance/.installed: pyproject.toml | $(VENV)/bin/uv
	$(PYTHON) -m venv $(VENV)-conformance
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV)-conformance/bin/python --group conformance
	@touch $@

# PyTorch lives apart: gradients are compared with what it said once. pip, unlike uv, takes a build without CUDA
# from where pip's own settings say.
$(VENV)-oracle/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-oracle
	$(VENV)-oracle/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-oracle/bin/pip install --quiet --group oracle
	@touch $@

demo: $(VENV)/.demo $(if $(filter mqtt,$(TRANSPORT)),mosquitto)  ## A controller and five agents on this machine, from joining to refused attacks; TRANSPORT=mqtt
	$(BIN)/muster demo --transport $(TRANSPORT) $(DEMO_ARGS)

test: $(VENV)/.dev $(VENV)-conformance/.installed mosquitto  ## Every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.dev  ## The property tests with new examples, SOAK_SEEDS times
	for seed in $$(shuf --input-range=1-1000000 --head-count=$(SOAK_SEEDS)); do \
	  $(BIN)/python -m pytest -q $(PYTEST_ARGS) -m hypothesis \
	    --hypothesis-profile=soak --hypothesis-seed=$$seed || exit 1; \
	done

check: $(VENV)/.dev  ## Format, lint, types, architecture, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m protos.generate --check
	$(BIN)/python -m pytest -q tests/architecture

format: $(VENV)/.dev  ## Format and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev mosquitto  ## The numbers, as ratios against the bare thing in the same run
	$(BIN)/python -m simulations.bench

study: $(VENV)/.dev  ## Federated runs, by strategy and by what befalls devices; PART="poisoning memory", STUDY_ARGS=--quick
	$(BIN)/python -m simulations.study $(STUDY_ARGS) $(PART)
	$(if $(PART),,$(BIN)/python -m simulations.side_by_side)

simulation: $(VENV)/.simulation  ## A run on Flower's simulation runtime, which needs Ray
	$(BIN)/python -m pytest -q tests/controller/federated/flower_app/simulation_runtime.py

oracle: $(VENV)-oracle/.installed  ## PyTorch's gradients anew, with which train steps are compared; ONLY="models losses"
	$(VENV)-oracle/bin/python -m tests.controller.train_step.oracle.generate $(ONLY)

oracle-bench: $(VENV)/.dev $(VENV)-oracle/.installed  ## The train step against PyTorch: time and memory of seven models
	$(BIN)/python -m tests.controller.train_step.oracle.bench $(VENV)-oracle/bin/python

protos: $(VENV)/.dev  ## Generate the wire code anew
	$(BIN)/python -m protos.generate

mosquitto:  ## The MQTT broker that tests run; installed where it is missing and may be
	@.ci/install_mosquitto

clean:
	rm -rf $(VENV) $(VENV)-conformance $(VENV)-oracle build *.egg-info
