# make run: the dashboard. make demo: the main job without a browser. make test: lint, types, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run demo test lint clean

help:
	@echo "make run   install what is needed, open the dashboard on http://127.0.0.1:8501"
	@echo "make demo  build a pocket task's teachers, distil two methods and the baseline, print a table"
	@echo "make test  install the developers' tools, lint, check types, run all tests"

run: $(VENV)/installed
	$(BIN)/streamlit run app.py

demo: $(VENV)/installed
	$(BIN)/python -m kdcore demo

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# torch first and alone: a package that is installed before it could pull another build of it.
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "KDBoard needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
