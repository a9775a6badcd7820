# Targets for newcomers and for everyday work; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test quick stress check format wheel clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

# Made again whenever the requirements change; the constraints hold torch to the build that was tested.
.venv/ready: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint .constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q kdrun || true
	@touch $@

run: .venv/ready ## set up if needed, then distill a small network on real digits (under two minutes)
	$(BIN)/kdrun method=fitnets student=resnet8

test: .venv/ready ## set up if needed, then run all tests
	$(BIN)/pytest -n auto

quick: .venv/ready ## most tests, in two minutes; the contract of one method of each shape
	$(BIN)/pytest -n auto -m "not slow"

stress: .venv/ready ## an hour or two of kills, damaged files and wrong command lines; nothing may go wrong
	$(BIN)/python -m tests.stress kills --count 1000
	$(BIN)/python -m tests.stress damage --count 5000
	$(BIN)/python -m tests.stress commands --count 4000

check: .venv/ready ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready ## put imports in order and mend what can be mended
	$(BIN)/ruff check --fix .

wheel: .venv/ready ## build the package into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what was built; outputs/ stays
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
