# `make setup run test check bench`, and nothing else to remember; `make help` lists the rest.
#
# Two environments, one for each edition: .venv is the plain one (an editable install, with the development tools),
# .venv-compiled holds the compiled wheel, built again when a source has changed. The tree itself is never built in place.

PYTHON ?= python3
ARGS ?=
# Programs that run a command where more Pythons live (tools/pythons.sh says how).
WRAPPERS ?=
SHELL := /bin/bash

PLAIN := .venv/bin/python
COMPILED := .venv-compiled/bin/python
SOURCES := $(shell find src/weft -name '*.py' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.h' -o -name '*.pyi' -o -name py.typed)
PACKAGING := pyproject.toml setup.py LICENSE MANIFEST.in
WHEEL_DIR := build/wheel
RUNTIME_EXTRAS := bench,examples,test

.DELETE_ON_ERROR:
.PHONY: help setup plain compiled run test test-plain test-compiled check bench conformance clients proof sanitize wheels changelog clean

help:
	@echo 'make setup        both environments: .venv (plain, with the tools) and .venv-compiled'
	@echo 'make run          the examples: real programs on asyncio and on Weft, ending in a table'
	@echo 'make test         the tests, on both editions        (ARGS="-k word" goes to pytest)'
	@echo 'make check        linters, types, layers, file sizes, .pxd twins, spelling'
	@echo 'make bench        the benchmarks, on the compiled edition     (ARGS="..." goes to them)'
	@echo 'make conformance  CPython'"'"'s own asyncio tests on this Python, beside asyncio and uvloop  (ARGS="...")'
	@echo 'make clients      clients'"'"' published tests, on asyncio and on Weft  (ARGS="--short", "--client NAME ...")'
	@echo 'make proof        conformance on every Python found, both editions; writes the table; then the clients'
	@echo 'make sanitize     the tests on the compiled edition under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make wheels       sdist and manylinux wheel into dist/, the wheel tested without a compiler'
	@echo 'make clean        takes away what was built'
	@echo 'PYTHON=python3.13 chooses the Python of a new environment.'

# ---------------------------------------------------------------------------------------------------- environments

setup: plain compiled

plain: .venv/.ready
compiled: .venv-compiled/.ready

.venv/.ready: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if v >= (3, 11) else "Weft needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.x setup" % v[:2])'
	$(PYTHON) -m venv .venv
	$(PLAIN) -m pip install --quiet --upgrade 'pip>=25.1'
	WEFT_PURE_BUILD=1 $(PLAIN) -m pip install --quiet --editable '.[dev]'
	touch $@

# The wheel is built by the tools of .venv, so that .venv-compiled has neither Cython nor the plain edition.
$(WHEEL_DIR)/.built: .venv/.ready $(SOURCES) $(PACKAGING)
	rm -rf $(WHEEL_DIR) && mkdir -p $(WHEEL_DIR)
	$(PLAIN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL_DIR) .
	touch $@

.venv-compiled/.ready: $(WHEEL_DIR)/.built
	test -x $(COMPILED) || { $(PLAIN) -m venv .venv-compiled && $(COMPILED) -m pip install --quiet --upgrade 'pip>=25.1'; }
	$(COMPILED) -m pip install --quiet --no-deps --force-reinstall $(WHEEL_DIR)/weft-*.whl
	$(COMPILED) -m pip install --quiet "$$(echo $(WHEEL_DIR)/weft-*.whl)[$(RUNTIME_EXTRAS)]"
	$(COMPILED) tools/smoke.py --edition compiled
	touch $@

# ------------------------------------------------------------------------------------------------------------- work

run: setup
	$(COMPILED) -m examples $(ARGS)

test: test-plain test-compiled

test-plain: plain
	$(PLAIN) tools/smoke.py --edition plain
	$(PLAIN) -m pytest $(ARGS)

test-compiled: compiled
	$(COMPILED) tools/smoke.py --edition compiled
	$(COMPILED) -m pytest $(ARGS)

bench: setup
	$(COMPILED) -m benchmarks $(ARGS)

conformance: compiled
	$(COMPILED) -m tests.conformance --beside asyncio uvloop $(ARGS)

clients: compiled
	$(PLAIN) -m tests.clients $(ARGS)

proof: compiled
	@set -e; pythons="$$(PEERS=uvloop tools/pythons.sh $(WRAPPERS))"; \
	  while read -r python; do set -- "$$@" --python "$$python"; done <<< "$$pythons"; \
	  $(PLAIN) -m tests.conformance.proof --peer asyncio --peer uvloop "$$@" $(ARGS)
	$(PLAIN) -m tests.clients --markdown docs/clients.md

sanitize: plain
	$(PLAIN) tools/sanitize.py $(ARGS)

check: plain
	$(PLAIN) -m ruff check .
	$(PLAIN) -m ruff format --check .
	$(PLAIN) -m mypy
	PATH="$(CURDIR)/.venv/bin:$$PATH" pyright --ignoreexternal --verifytypes weft
	.venv/bin/lint-imports --no-cache
	$(PLAIN) tools/check_size.py
	$(PLAIN) tools/check_pxd.py
	$(PLAIN) tools/check_tree.py
	.venv/bin/codespell

wheels: plain
	$(PLAIN) tools/wheels.py $(ARGS)

changelog: plain
	.venv/bin/towncrier build --draft

clean:
	rm -rf build dist wheelhouse .venv .venv-compiled src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
