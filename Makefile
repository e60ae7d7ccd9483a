# `make book` and `make test` are all that most people need; each sets up what it needs.
PYTHON ?= python3
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help book serve notebooks test test-package bench experiments execute exercises mutants lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.txt pyproject.toml tools/environment.py
	$(PYTHON) tools/environment.py

book: .venv/ready  ## build the site into _build/html
	$(PY) tools/build_book.py

serve: book  ## build the site and serve it on this machine: the address is printed
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html

test: book  ## every test: package, notebooks, book, site
	$(PY) -m pytest

# attnlib's own tests, by plain pytest. Another Python, which has the extra `test`: make test-package PY=python
test-package: $(if $(filter .venv/%,$(PY)),.venv/ready)  ## the package's tests alone, without the book
	$(PY) -m pytest -o addopts= -ra --strict-markers --doctest-modules --doctest-ignore-import-errors \
	    --ignore=tests/book --ignore=tests/lab --ignore=tests/test_benchmarks.py --ignore=attnlib/lab tests attnlib

bench: .venv/ready  ## measure attnlib beside its peers, ten minutes; store it in benchmarks/results
	$(PY) -m benchmarks

experiments: .venv/ready  ## what takes longer than a chapter's minute; stored in attnlib/lab/results
	$(PY) -m attnlib.lab.experiments

notebooks: .venv/ready  ## open the chapters in JupyterLab
	$(PY) -m jupyterlab chapters

exercises: .venv/ready  ## notebooks to write in, my-exercises/, and what is done of them
	$(PY) tools/exercises.py

execute: .venv/ready  ## run the notebooks anew from text/ and store their outputs
	$(PY) tools/execute.py

mutants: .venv/ready  ## break attnlib's core step by step, name what no test notices; SAMPLE=500 MODULES="masks"
	$(PY) -m tools.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(MODULES)

lint: .venv/ready  ## check the code, its format and its types
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

clean:  ## remove what the other targets made, the environment too
	rm -rf .venv _build
