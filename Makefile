# `make demo`: trains on speech that this machine makes, with and without clipping, and prints both scores.
# `make test`: style, types and tests. `make docs`: the documentation as a site.
# `make notebook`: opens notebooks/ in Jupyter. All need Python 3.11 or newer and make.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --disable-pip-version-check
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo docs notebook test quicktest stress lint tests clean

demo: $(BIN)/installed
	@recipes/demo/run.sh

# Two files at a time; OMP_NUM_THREADS: a core each.
PYTEST = OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile

# Linting takes one core, so the tests begin beside it.
test: $(BIN)/installed-for-tests
	$(MAKE) --jobs 2 lint tests

tests: $(BIN)/installed-for-tests
	$(PYTEST)

quicktest: lint $(BIN)/installed-for-tests
	$(PYTEST) -m "not slow"

# What CI does with 3 kills and 1,200 inputs, done with more: about 40 minutes.
stress: $(BIN)/installed-for-tests
	pytest tests/test_kills.py --kills 50
	pytest tests/test_fuzz.py --inputs 20000

notebook: $(BIN)/installed-for-notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

$(BIN)/installed-for-notebooks: $(BIN)/installed requirements-notebook.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-notebook.txt
	touch $@

# An environment of its own: the site is built from docstrings that nothing has to import.
docs: $(VENV)-docs/installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet
	@echo site/index.html

$(VENV)-docs/installed: requirements-docs.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

lint: $(BIN)/installed-for-tests
	ruff check
	ruff format --check
	mypy

$(BIN)/installed: requirements.txt pyproject.toml gradclip/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@echo "The first time, packages are installed into $(VENV): 1.5 GB, a few minutes."
	@scripts/in_one_line.sh "Installing packages" $(PIP) -r requirements.txt
	@scripts/in_one_line.sh "Installing nussl" $(PIP) --no-deps nussl==1.1.9
	@scripts/in_one_line.sh "Installing this repository" $(PIP) --no-deps --editable ./gradclip --editable .
	@touch $@

$(BIN)/installed-for-tests: $(BIN)/installed requirements-test.txt
	@scripts/in_one_line.sh "Installing what tests need" $(PIP) -r requirements-test.txt
	@scripts/in_one_line.sh "Installing asteroid" $(PIP) --no-deps asteroid==0.7.0
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-docs cache site
