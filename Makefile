# The Executable Transformer. `make` or `make help` lists what there is.
#
# Every target first makes .venv (tools/setup_venv.py), which a second run finds finished.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Without PYTHON=...: the first of these that runs and that the book supports.
PYTHON_CHOICES = $(if $(PYTHON),"$(PYTHON)",.venv/bin/python python3.13 python3.12 python3.11 python3)
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

JOBS ?= 2
VENV = .venv/bin/python
TESTS = $(VENV) -m pytest -p tests.notebooks.plugin

# A copied or moved .venv does not work: its stamp names the folder that it was made in.
MOVED := $(shell grep -sqxF '$(CURDIR)' .venv/.complete || echo moved)

.PHONY: help book pdf test gpu bench parity lab refresh lint clean assets force

help: ## this list
	@echo "The Executable Transformer"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done
	@echo
	@echo "  ONLY=01            one chapter, by the start of its file name (book, pdf, refresh, lab)"
	@echo "  RECORD=1           keep the table that is printed, for the book (parity)"
	@echo "  JOBS=2             test processes (test)"
	@echo "  PYTHON=python3.12  the Python to make .venv with"
	@echo "  NEWEST=1           the newest packages that pyproject.toml allows, not the pinned ones"

book: assets ## build the book into _build/html
	@$(VENV) -m companion.book build $(if $(ONLY),--only $(ONLY))

pdf: assets ## print the book as one PDF, _build/pdf/book.pdf (needs Chromium)
	@$(VENV) -m companion.book pdf $(if $(ONLY),--only $(ONLY))

test: assets ## run all tests, and every notebook against its stored outputs
	@OMP_NUM_THREADS=1 $(TESTS) -n $(JOBS) --dist loadscope --no-loadscope-reorder tests book
	@echo "All tests passed, and every notebook printed what it says it prints."

gpu: assets ## the same on CUDA, with a tolerance for its rounding
	@COMPANION_DEVICE=cuda $(TESTS) --gpu tests/unit tests/parity book
	@echo "All tests passed on CUDA, and every notebook printed what it says it prints."

bench: assets ## measure speed and memory
	@$(VENV) -m tests.benchmarks

parity: assets ## compare every model with its reference, and print the differences
	@OMP_NUM_THREADS=1 $(VENV) -m pytest -q tests/parity $(if $(RECORD),--record-parity)

lab: assets ## open the chapters in JupyterLab
	@cd book && ../$(VENV) -m jupyter lab $(if $(ONLY),$(firstword $(notdir $(wildcard book/$(ONLY)*.ipynb))))

refresh: assets ## run the notebooks and store their outputs, slimmed
	@$(VENV) -m companion.book refresh $(if $(ONLY),--only $(ONLY))

lint: .venv/.complete ## check code and notebooks with ruff
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .

clean: ## remove what was built; .venv and the fetched assets stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .coverage companion.egg-info
	find book companion tests tools -name __pycache__ -prune -exec rm -rf {} +
	@echo "To start from nothing, remove .venv too."

assets: .venv/.complete
	@$(VENV) -m companion.data.assets fetch

.venv/.complete: requirements.txt pyproject.toml tools/setup_venv.py $(if $(PYTHON)$(NEWEST)$(MOVED),force)
	@for python in $(PYTHON_CHOICES); do \
	    if "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1; then \
	        exec "$$python" tools/setup_venv.py $(if $(NEWEST),--newest); \
	    fi; \
	done; \
	echo 'No Python 3.11, 3.12 or 3.13 runs here (tried:$(patsubst %, %,$(PYTHON_CHOICES))).' >&2; \
	echo 'Install one, or name one that you have: make book PYTHON=/path/to/python3.12' >&2; \
	exit 1

force:
