# ARX. `make demo` shows it, `make test` tries it; both install what the machine lacks.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export PGRX_HOME := $(CURDIR)/.tools/pgrx
export PATH := $(CURDIR)/.tools/cargo/bin:$(PATH)

RUST_PACKAGES := arx-core arx arx-udf arx-sidecar arx-stack arx-tests arx-bench

.PHONY: help demo demo-down install test torture bench lint fmt tools clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: ## Start private servers, import real transactions and show what ARX finds (DATA=path for other data)
	@scripts/demo up

demo-down: ## Stop the demo's servers and remove their data
	@scripts/demo down

install: tools ## Build the extension and the sidecar and install them (PREFIX=/usr/local for the sidecar)
	@scripts/install-extension
	@scripts/install-sidecar "$(or $(PREFIX),/usr/local)"

test: ## Run every test against real servers
	@scripts/test

torture: ## Kill the sidecar 200 times, ClickHouse and PostgreSQL 20 times, cut and fill, and compare (some 20 minutes)
	@scripts/test torture

bench: ## Measure side by side with peers; writes bench/REPORT.md and target/bench/report.json
	@scripts/bench

lint: tools ## Check format, lints, documentation, licences and shell scripts
	@scripts/lint

fmt: ## Format the Rust code
	@cargo fmt $(addprefix -p ,$(RUST_PACKAGES))

tools: ## Install what the machine lacks (Debian packages, cargo-pgrx, the ClickHouse engine)
	@scripts/install-tools

clean: demo-down ## Remove what was built (.tools stays: it takes minutes to get back)
	@cargo clean
