# Everything runs in .venv, which the first target creates; PYTHON is the interpreter it is made from (3.11 or newer).
PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo test test-all lint docs clean

demo: .venv/installed
	$(RUN) tools/demo.py --output output/demo

test: .venv/installed
	$(RUN) -m pytest -q

test-all: .venv/installed
	$(RUN) -m pytest -q -m "slow or not slow"

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: .venv/docs_installed
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "The pages are in site; open site/index.html"

.venv/installed: setup.py tools/install_detectron2.py
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet torch torchvision
	$(RUN) tools/install_detectron2.py
	$(RUN) -m pip install --quiet --editable ".[test]"
	touch $@

.venv/docs_installed: .venv/installed
	$(RUN) -m pip install --quiet --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv output site
