# `make run` on a fresh clone sets up .venv and runs every notebook; `make` alone lists the targets.
#
# uv, inside .venv, installs all packages: it takes exactly what requirements.lock pins. Paths are relative and tools are
# called as `python -m`, so that a folder with spaces in its name works, and so does the make of macOS (3.81).

PYTHON ?= python3
TORCH_BACKEND ?=
ARGS ?=

BIN := .venv/bin/python
UV := $(BIN) -m uv
PYTEST := $(BIN) -m pytest
BY_NOTEBOOK := -n 2 --dist loadfile --no-loadscope-reorder

# What another active environment exports must not leak into .venv.
unexport PYTHONHOME PYTHONPATH
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help run matrix test test-fast test-notebooks test-browser test-full test-course book lab html pack lint notebooks bench lock clean FORCE

help:  ## this list
	@echo 'make <target>, such as: make run'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.13    the Python >= 3.11 that .venv is made from'
	@echo 'TORCH_BACKEND=cpu    install torch without CUDA (a much smaller download on Linux)'
	@echo 'ARGS="..."           more arguments for run, test*, lab, lock'

run: .venv/installed  ## set up .venv and run every notebook, compared with what is stored
	@$(BIN) -m labkit.cli run $(ARGS)

notebooks: .venv/installed  ## run every notebook, and store the outputs of those where one changed
	@$(BIN) -m labkit.cli run --store $(ARGS)

lab: .venv/installed  ## open JupyterLab with a page of all notebooks, your points, and what is next
	@$(BIN) -m labkit.cli start || true
	cd notebooks && ../$(BIN) -m jupyterlab $$(ls START.ipynb 2>/dev/null) $(ARGS)

book: .venv/installed  ## make the site of notebooks, pages and labkit's reference: build/book/html
	$(UV) pip install --quiet --python $(BIN) -c requirements.lock -r pyproject.toml --extra book
	@OMP_NUM_THREADS=1 $(BIN) scripts/make_book.py

html: .venv/installed  ## one page for each notebook as it is now, to print or to have read aloud: build/html
	@$(BIN) -m nbconvert --to html --template accessible --TemplateExporter.extra_template_basedirs=labkit/rerun/templates \
	  --log-level=WARN --output-dir build/html notebooks/[0-9]*.ipynb
	@echo 'open build/html'

pack: .venv/installed  ## make the zip to hand in: make pack STUDENT=ab1234
	@$(BIN) -m labkit.cli pack --student "$(STUDENT)" $(ARGS)

test: .venv/installed  ## tests of labkit, and every notebook executed and compared
	OMP_NUM_THREADS=1 $(PYTEST) tests notebooks --nbval -m 'not full' $(BY_NOTEBOOK) $(ARGS)

test-fast: .venv/installed  ## tests of labkit only: no notebook is trained, no class graded
	OMP_NUM_THREADS=1 $(PYTEST) tests -m 'not slow and not full' $(BY_NOTEBOOK) $(ARGS)

test-notebooks: .venv/installed  ## every notebook executed and compared
	OMP_NUM_THREADS=1 $(PYTEST) notebooks --nbval $(BY_NOTEBOOK) $(ARGS)

test-browser: .venv/installed  ## JupyterLab and our pages in a real Chromium (part of test, too, where there is one)
	OMP_NUM_THREADS=1 $(PYTEST) tests/test_browser.py $(ARGS)

test-full: test test-course  ## test, all combinations, the course at full size, and the notebooks as on other machines
	OMP_NUM_THREADS=1 $(PYTEST) tests -m full $(BY_NOTEBOOK) $(ARGS)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) notebooks --nbval $(BY_NOTEBOOK) $(ARGS)
	LABKIT_TEST_THREADS=2 $(PYTEST) notebooks --nbval $(ARGS)
	OMP_NUM_THREADS=1 LABKIT_BF16=0 $(PYTEST) notebooks --nbval $(BY_NOTEBOOK) $(ARGS)

test-course: .venv/installed  ## blank notebooks, 500 honest and 200 timed submissions, real nbgrader (an hour)
	$(UV) pip install --quiet --python $(BIN) -c requirements.lock 'nbgrader==0.9.6'
	OMP_NUM_THREADS=1 $(PYTEST) tests/slow $(ARGS)

lint: .venv/installed  ## ruff, mypy and codespell, over code, notebooks and pages
	$(BIN) -m ruff check
	$(BIN) -m ruff format --check
	$(BIN) -m mypy
	$(BIN) -m codespell_lib

matrix: .venv/installed  ## re-execute every notebook under ten settings, recorded in data/results/reexecution.csv (hours; resumes)
	@$(BIN) scripts/matrix.py $(ARGS)

bench: .venv/installed  ## the pipeline beside the original's, shrinking beside Torch-Pruning, the study beside the plain loop (idle machine)
	@$(BIN) scripts/bench_pipeline.py
	@$(BIN) scripts/bench_shrink.py
	@$(BIN) scripts/bench_study.py

# torch itself brings the CUDA parts that it was built for; on a machine without CUDA it brings none.
CUDA := triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl nvidia-cuda-cupti \
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
  nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

lock: .venv/uv  ## write requirements.lock anew (newest versions: ARGS=--upgrade)
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra edge --extra cluster --extra dev $(CUDA:%=--no-emit-package %) \
	  --custom-compile-command 'make lock' $(ARGS) pyproject.toml -o requirements.lock
	@if grep -E '^(triton|cuda|nvidia)' requirements.lock; then echo 'add these to CUDA in the Makefile'; exit 1; fi

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
