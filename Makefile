# make demo and make test do all their own set-up; a second run reuses it.
# Tests run on WORKERS processes side by side, each with nodes of its own; the longest come first.
SHELL := /bin/bash
BIN := .venv/bin
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS)
# What writes with 200 ms for each wait gets the machine for itself.
ALONE := tests/cluster/test_rotation.py tests/cluster/test_rotation_killed.py
NODES := tests/cluster/test_kill_*.py tests/cluster tests/lab $(addprefix --ignore=,$(ALONE))

.PHONY: help demo test lint unit contract cluster matrix bench lock clean
help:
	@echo "make demo      three local nodes with an etcd cluster, to play with"
	@echo "make test      lint and all tests, real nodes included"
	@echo "make lint      ruff, mypy --strict, the floors"
	@echo "make unit      the tests that need neither sshd nor containers"
	@echo "make contract  the tests against a real sshd on loopback"
	@echo "make cluster   the tests on real nodes"
	@echo "make matrix    certificates on real nodes: each etcd on each Debian, killed after each step"
	@echo "make bench     how fast, as ratios to plain ssh, on lab nodes"
	@echo "make lock      write requirements.lock anew"
	@echo "make clean     remove the demo, the environment and all caches of this checkout"

demo:
	@scripts/setup demo
	@scripts/demo

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory lint
	$(PYTEST) tests/contract tests/unit
	$(PYTEST) $(NODES)
	$(BIN)/pytest $(ALONE)

lint:
	@scripts/setup tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit:
	@scripts/setup tools
	$(PYTEST) tests/unit

contract:
	@scripts/setup tools
	$(PYTEST) tests/contract

cluster:
	@scripts/setup test
	$(PYTEST) $(NODES)
	$(BIN)/pytest $(ALONE)

matrix:
	@scripts/setup test
	$(PYTEST) --dist=worksteal --whole tests/cluster

bench:
	@scripts/setup test
	$(BIN)/python -m bench

lock:
	@scripts/setup tools
	scripts/lock

clean:
	@if [ -x $(BIN)/invoke ]; then $(BIN)/invoke lab.down --name demo || true; fi
	rm -rf .venv .lab/demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rmdir .lab 2>/dev/null || true
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
