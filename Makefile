# One door to everything: each target installs what it needs (Debian packages, uv, the environment in .venv),
# does only what is not up to date, and says what it does. `make` alone prints the list.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
ARGS ?=


PY := .venv/bin/python
say = printf '\033[1m==> %s\033[0m\n' '$(1)'

.PHONY: help demo test test-fast test-preload test-kernel test-apiserver test-vault test-kernels parts lint format bench build environment lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nEach target installs what it needs on Debian 12. Root installs Debian packages; without root\n'
	@printf 'what is missing is named. More: docs/development.md\n'

environment: ## Python environment in .venv, from requirements.lock
	@scripts/environment.sh build

build: environment ## Compile the BPF programs, the shim, the libbpf binding and the wire messages
	@$(PY) hatch_build.py

demo: build ## Show a secret rotated under running programs (as root: from the kernel; else: on tmpfs)
	@exec .venv/bin/kernelsecret-ctl demo $(ARGS)

test: parts test-fast test-preload test-kernel test-apiserver test-vault ## All tests, the fast ones first (with CI=true what cannot run here fails)

test-fast: build ## Unit and contract tests: no root needed
	@$(call say,unit and contract tests)
	@$(PY) -m pytest tests/unit tests/contract $(ARGS)

test-preload: build ## Tests of the preloaded shim, with glibc, musl and sanitizers (no root needed)
	@if [ "$$(id -u)" = 0 ] || [ "$${CI:-}" = true ]; then scripts/apt.sh test; fi
	@$(call say,tests of the shim)
	@$(PY) -m pytest tests/preload $(ARGS)

test-kernel: build ## Tests on the running kernel (need root and BPF; elsewhere skipped, with the reason)
	@if [ "$$(id -u)" = 0 ] || [ "$${CI:-}" = true ]; then scripts/apt.sh test; fi
	@$(call say,kernel tests)
	@$(PY) -m pytest tests/kernel tests/agent $(ARGS)

test-apiserver: build ## Tests with a real API server, which is built the first time (minutes; no root needed)
	@if [ "$$(id -u)" = 0 ] || [ "$${CI:-}" = true ]; then scripts/apt.sh test; fi
	@scripts/test-parts.sh build kubernetes
	@$(call say,tests with an API server)
	@$(PY) -m pytest tests/apiserver $(ARGS)

test-vault: build ## Tests with a real Vault, which is built the first time (minutes; no root needed)
	@if [ "$$(id -u)" = 0 ] || [ "$${CI:-}" = true ]; then scripts/apt.sh test; fi
	@scripts/test-parts.sh build
	@$(call say,tests with a Vault)
	@$(PY) -m pytest tests/vault $(ARGS)

parts: ## Begin to build the API server and the Vault of the tests, in the background
	@if [ "$$(id -u)" = 0 ] || [ "$${CI:-}" = true ]; then scripts/apt.sh build test; fi
	@scripts/test-parts.sh start

test-kernels: build ## The same on Debian's 6.1 and 6.12 in emulation, with each lockdown (an hour; not in `make test`)
	@scripts/apt.sh test kernels
	@$(call say,other kernels)
	@$(PY) -m pytest -m kernels tests/kernels $(ARGS)

lint: build ## ruff, mypy, import directions
	@$(call say,ruff)
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@$(call say,mypy)
	@.venv/bin/mypy
	@$(call say,import directions)
	@.venv/bin/lint-imports

format: environment ## Format the code and mend what can be mended
	@.venv/bin/ruff check --fix-only .
	@.venv/bin/ruff format .

bench: build ## Measure on this machine; writes bench/results.json and docs/benchmarks.md
	@scripts/apt.sh test bench
	@scripts/test-parts.sh build
	@exec $(PY) -m bench $(ARGS)

lock: ## Resolve the dependencies of pyproject.toml anew into requirements.lock
	@scripts/lock.sh $(ARGS)

clean: ## Remove everything that was built, and the environment
	@rm -rf .venv .tools .stamps build dist agent/csi/wire agent/kernel/objects agent/kernel/_libbpf*.so agent/preload/objects
	@find . -name __pycache__ -prune -exec rm -rf {} + -o -name '.*_cache' -prune -exec rm -rf {} +
