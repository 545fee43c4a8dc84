# make run: the dashboard. make demo: the main job without a browser. make test: lint, types, tests.
# WORKERS: processes that share the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# A file's tests stay in one process, since many share what a module-wide fixture has trained.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help run demo test test-fast coverage lint lock clean

help:
	@echo "make run        install what is needed, open the dashboard on http://127.0.0.1:8501"
	@echo "make demo       train a generated task's teachers, distil two methods and the baseline, print a table"
	@echo "make test       install the developers' tools, lint, check types, run all tests"
	@echo "make test-fast  the tests that take about a minute"
	@echo "make coverage   all tests but the browser's, with the lines they miss"
	@echo "make lint       ruff, codespell, mypy"
	@echo "make lock       resolve requirements*.txt again into requirements*.lock"

run: $(VENV)/installed
	$(BIN)/streamlit run app.py

demo: $(VENV)/installed
	$(BIN)/kdcore demo

test: $(VENV)/installed-dev lint
	$(PYTEST)

test-fast: $(VENV)/installed-dev
	$(PYTEST) -m "not slow and not e2e"

coverage: $(VENV)/installed-dev
	$(PYTEST) -m "not e2e" --cov --cov-report=term-missing:skip-covered

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage build *.egg-info

# torch comes first and alone, by its version: its build depends on the machine (CPU or CUDA, from a registry or from a
# local folder of wheels), so no one hash fits. Everything else is installed by hash. `kdcore` is installed editable.
$(VENV)/installed: requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "KDBoard needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $$(grep '^torch==' requirements.txt)
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	touch $@

# The override takes torch out of what is resolved, and with it the CUDA packages that its registry build brings.
NOT_LOCKED := torch sympy mpmath networkx
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links --override $(VENV)/override.txt \
	$(addprefix --no-emit-package=,$(NOT_LOCKED))

lock: $(VENV)/installed
	$(PIP) install uv
	echo "torch ; sys_platform == 'never'" > $(VENV)/override.txt
	echo 'setuptools>=77' | cat requirements.txt - > $(VENV)/all.txt
	$(call write_lock,requirements.lock,$(VENV)/all.txt)
	$(call write_lock,requirements-dev.lock,$(VENV)/all.txt requirements-dev.txt --constraint requirements.lock)

# $(1): the lock file, $(2): what is resolved
define write_lock
	$(COMPILE) $(2) --output-file $(VENV)/resolved.lock
	( echo '# Made by `make lock` from requirements*.txt; torch is not in it, see Makefile.'; cat $(VENV)/resolved.lock ) > $(1)
endef
