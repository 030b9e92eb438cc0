# `make demo` and `make test` do all their own set-up: a checkout and Python 3.11 or newer are enough.
# Another Python is chosen with `make PYTHON=/path/to/python3.12 demo`.

PYTHON ?= python3
READY := .venv/ready

.PHONY: help demo test lint lock docs

help:
	@echo "make demo   build a model and a search engine from the documentation of the installed packages"
	@echo "make test   run the tests (ARGS='tests/index -x' passes arguments to pytest)"
	@echo "make lint   check style, formatting and types"
	@echo "make lock   write the versions now in .venv to requirements/lock.txt"
	@echo "make docs   write the tables of options, commands and measured claims in docs/ anew"

demo: $(READY)
	@.venv/bin/corpusmith demo --out demo

test: $(READY)
	@.venv/bin/python -m pytest $(ARGS)

lint: $(READY)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

lock: $(READY)
	@sed -n '/^#/p' requirements/lock.txt > .venv/lock.txt
	@.venv/bin/python -m pip freeze --all --exclude corpusmith \
	    | grep -vE '^(#|-e|torch==|triton==|nvidia-|cuda-)' >> .venv/lock.txt
	@mv .venv/lock.txt requirements/lock.txt

docs: $(READY)
	@.venv/bin/python scripts/reference.py
	@PYTHONPATH=. .venv/bin/python scripts/systems.py

$(READY): requirements/lock.txt requirements/torch.txt pyproject.toml scripts/setup.py
	@$(PYTHON) scripts/setup.py
	@touch $@
