# Every command works as the first one on a fresh clone: `setup` makes .venv when it is needed.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup site serve lab tutorials figures bench test test-slow weights coverage lint clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# An environment does not survive a move: it is made again when .ready names another folder.
ifneq ($(shell cat .venv/.ready 2>/dev/null),$(CURDIR))
.PHONY: .venv/.ready
endif

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making .venv: PyTorch and the rest, about 3 GB to download and 6 GB on disk"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --editable '.[dev]'
	@mkdir -p .venv/etc/ipython # kernels here serve one notebook on this machine: no word on encryption
	@echo 'c.IPKernelApp.log_level = "ERROR"' > .venv/etc/ipython/ipython_kernel_config.py
	@echo '$(CURDIR)' > $@

setup: .venv/.ready ## Make .venv with all that is needed (redone when pyproject.toml changes)

site: setup ## Build the site into docs/_build/html, with the stored outputs of the tutorials
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --jobs auto docs docs/_build/html
	@echo "Built: docs/_build/html/index.html (make serve shows it)"

serve: site ## Build the site and host it on http://localhost:8000 (PORT=…)
	$(BIN)/python -m http.server --bind localhost --directory docs/_build/html $(PORT)

lab: setup ## Open the tutorials in JupyterLab (in a container as root: ARGS=--allow-root)
	$(BIN)/jupyter lab $(ARGS) tutorials

tutorials: setup ## Re-execute the tutorials and rewrite their stored notebooks
	$(BIN)/python tutorials/build.py

figures: setup ## Redraw the pictures of the README, and what the explorer shows without JavaScript
	$(BIN)/python docs/figures.py
	$(BIN)/python -m docs.views

bench: setup ## Time everything on this CPU, twenty minutes, and store what the site shows
	$(BIN)/tbc bench layers --json docs/_results/layers-cpu.json
	$(BIN)/tbc bench blocks --json docs/_results/blocks-cpu.json
	$(BIN)/tbc bench networks --compile --json docs/_results/networks-cpu.json
	$(BIN)/tbc bench reference --json docs/_results/reference.json
	$(BIN)/tbc bench calls --json docs/_results/calls-cpu.json

test: setup ## Run the quick tests, the doctests and every cell of every tutorial
	$(BIN)/pytest -m "not slow"

test-slow: site ## Run the slow tests: compilation, export, kills, mutations, the site in Chromium
	$(BIN)/pytest -m slow

weights: site ## Print what each page of the site weighs
	$(BIN)/python -m tests.site

# Without the tutorials, whose kernels do not start in time under coverage: they only add lines.
coverage: setup ## Print which lines `make test` runs, and fail under 90 % of them
	$(BIN)/pytest -m "not slow" --cov --cov-report=term --cov-report=html:docs/_build/coverage \
		tests tbc_ref tbc_gpu tbc_models

lint: setup ## Check style, types and the walls between the packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" npx --yes --loglevel=error --package typescript@5.9.3 tsc --project docs/jsconfig.json

clean: ## Remove .venv and everything built
	rm -rf .venv docs/_build docs/tutorials
