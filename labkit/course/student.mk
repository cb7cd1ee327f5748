# `make lab` sets up .venv and opens JupyterLab; `make` alone lists the targets.
#
# uv, inside .venv, installs all packages: it takes exactly what requirements.lock pins. Paths are relative and tools are
# called as `python -m`, so that a folder with spaces in its name works, and so does the make of macOS (3.81).

PYTHON ?= python3
TORCH_BACKEND ?=
ARGS ?=

BIN := .venv/bin/python
UV := $(BIN) -m uv

# What another active environment exports must not leak into .venv.
unexport PYTHONHOME PYTHONPATH
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help lab pack clean FORCE

help:  ## this list
	@echo 'make <target>, such as: make lab'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.13    the Python >= 3.11 that .venv is made from'
	@echo 'TORCH_BACKEND=cpu    install torch without CUDA (a much smaller download on Linux)'

lab: .venv/installed  ## open JupyterLab with a page of all notebooks, your points, and what is next
	@$(BIN) -m labkit.cli start || true
	cd notebooks && ../$(BIN) -m jupyterlab $$(ls START.ipynb 2>/dev/null) $(ARGS)

pack: .venv/installed  ## make the zip to hand in: make pack STUDENT=ab1234
	@$(BIN) -m labkit.cli pack --student "$(STUDENT)" $(ARGS)

clean:  ## remove what was generated, but .venv and the networks in models/ stay
	rm -rf build labkit.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis notebooks/START.ipynb
	find $(wildcard labkit tests notebooks) \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# A folder that was moved or copied with its .venv is set up anew (labkit is installed by its path), and so is one whose
# Python was removed.
ifneq ($(shell cat .venv/installed 2>/dev/null),$(CURDIR))
.venv/installed: FORCE
endif
ifeq ($(wildcard $(BIN)),)
.venv/uv: FORCE
endif

# The stamp is written last, so an interrupted installation is taken up again by the next call.
.venv/installed: .venv/uv requirements.lock pyproject.toml
	@rm -f $@
	$(UV) pip install --python $(BIN) $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND)) -r requirements.lock
	$(UV) pip install --python $(BIN) --no-deps -e .
	@printf '%s\n' "$(CURDIR)" > $@

# A .venv that works is kept; one that does not (half made, or its Python is gone or too old) is made anew.
.venv/uv:
	@$(BIN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.13 $(MAKECMDGOALS)")' && \
	  echo '$(PYTHON) -m venv .venv' && $(PYTHON) -m venv --clear .venv; }
	$(BIN) -m pip install --quiet 'uv>=0.7'
	@touch $@
