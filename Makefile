# make demo and make test do all their own set-up; a second run reuses it.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: help demo test lint unit contract cluster bench lock clean
help:
	@echo "make demo      three local nodes with an etcd cluster, to play with"
	@echo "make test      lint and all tests, real nodes included"
	@echo "make lint      ruff, mypy --strict, the floors"
	@echo "make unit      the tests that need neither sshd nor containers"
	@echo "make contract  the tests against a real sshd on loopback"
	@echo "make cluster   the tests on real nodes"
	@echo "make bench     how fast, as ratios to plain ssh, on lab nodes"
	@echo "make lock      write requirements.lock anew"
	@echo "make clean     remove the demo, the environment and all caches of this checkout"

demo:
	@scripts/setup demo
	@scripts/demo

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n 2 tests/contract tests/unit
	$(BIN)/pytest -n 2 tests/cluster/test_kill_*.py tests/cluster tests/lab

lint:
	@scripts/setup tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit:
	@scripts/setup tools
	$(BIN)/pytest tests/unit

contract:
	@scripts/setup tools
	$(BIN)/pytest tests/contract

cluster:
	@scripts/setup test
	$(BIN)/pytest tests/lab tests/cluster

bench:
	@scripts/setup test
	$(BIN)/python -m bench

lock:
	@scripts/setup tools
	scripts/lock

clean:
	@if [ -x $(BIN)/invoke ]; then $(BIN)/invoke lab.down --name demo || true; fi
	rm -rf .venv .lab build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
