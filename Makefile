# Two commands for users: `make train` and `make test`. Each sets up what it needs in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Further extras that the tests should find, e.g. make test WITH="torch onnx".
WITH :=

.PHONY: train test simulator codegen emulated lint types format clean

train: $(VENV)/plots.installed
	$(BIN)/cnn train $(ARGS)

test: $(VENV)/test.installed $(WITH:%=$(VENV)/%.installed)
	$(BIN)/python -m pytest -n 2 $(ARGS)

# The three runs of the CUDA backend that need no GPU. They install CUDA's Python packages: give them a VENV of their own.
# Each test runs on one core, so two run at a time (-n).
simulator: $(VENV)/dev.installed $(VENV)/cu13.installed
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest -n 2 tests/simulator $(ARGS)

codegen: $(VENV)/dev.installed $(VENV)/cu13.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/codegen tests/runs/test_plan.py $(ARGS)

# Needs an emulator of PTX and a stand-in for CuPy on PYTHONPATH, before the real one; on a GPU: pytest -m gpu.
emulated: EMULATED ?= tests/gpu tests/ptxsim
emulated: $(VENV)/dev.installed $(VENV)/cu13.installed
	CNN_CUDA_KEEP_PTX=1 $(BIN)/python -m pytest -n 2 $(EMULATED) $(ARGS)

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy has to see kernels/ as cnn.kernels, which only an installed copy shows it.
types: $(VENV)/dev.installed
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --target build/types .
	MYPYPATH=build/types $(BIN)/mypy --package cnn --package benchmarks

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# One marker for each extra: made anew when pyproject.toml changes.
$(VENV)/%.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) .venv-cuda build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
