# `make book` and `make test` are all that most people need; each sets up what it needs.
PYTHON ?= python3
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help book serve notebooks test bench experiments execute lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.txt pyproject.toml tools/environment.py
	$(PYTHON) tools/environment.py

book: .venv/ready  ## build the site into _build/html
	$(PY) tools/build_book.py

serve: book  ## build the site, serve it on this machine, open it
	$(PY) tools/serve.py --open

test: book  ## every test: package, notebooks, book, site
	$(PY) -m pytest

bench: .venv/ready  ## measure attnlib beside its peers, ten minutes; store it in benchmarks/results
	$(PY) -m benchmarks

experiments: .venv/ready  ## what takes longer than a chapter's minute; stored in attnlib/lab/results
	$(PY) -m attnlib.lab.experiments

notebooks: .venv/ready  ## open the chapters in JupyterLab
	$(PY) -m jupyterlab chapters

execute: .venv/ready  ## run the notebooks anew from text/ and store their outputs
	$(PY) tools/execute.py

lint: .venv/ready  ## check and format-check the code
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

clean:  ## remove what the other targets made, the environment too
	rm -rf .venv _build
