# Entry points for users and developers. Targets install missing tools first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# PG=17 or PG=18 chooses another version of PostgreSQL than 15. If this Debian does not have it,
# demo and test run in a Debian root that has it, under .tools.

RUST_PACKAGES := arx-core arx-pgwire arx arx-udf arx-sidecar arx-stack arx-tests arx-bench arx-fuzz

.PHONY: help demo demo-down install test torture bench fuzz lint fmt tools clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo '  PG=17 or PG=18 before a target: another version of PostgreSQL than 15'

demo: ## Start private servers, import real transactions and give a tour (DATA=path: other data)
	@scripts/in-root scripts/demo up

demo-down: ## Stop the servers of the demo and remove their data
	@scripts/in-root scripts/demo down

install: tools ## Build and install the extension and the sidecar (PREFIX=/usr/local)
	@scripts/install-extension
	@scripts/install-sidecar "$(or $(PREFIX),/usr/local)"

test: ## Run every test against real servers
	@scripts/in-root scripts/test

torture: ## Kill sidecar and servers repeatedly and compare the data (about 20 minutes)
	@scripts/in-root scripts/test torture

bench: ## Measure next to peers; writes docs/benchmarks.md and target/bench/report.json
	@scripts/bench

fuzz: ## Run every fuzz target for FUZZ_SECONDS=600 seconds (scripts/fuzz TARGET runs one)
	@scripts/fuzz

lint: ## Check format, lints, documentation, licences and shell scripts
	@scripts/install-tools --lint
	@scripts/lint

fmt: ## Format the Rust code
	@cargo fmt $(addprefix -p ,$(RUST_PACKAGES))

tools: ## Install missing Debian packages, cargo-pgrx and the ClickHouse engine
	@scripts/install-tools

clean: demo-down ## Remove build results; .tools is kept, because it takes minutes to restore
	@cargo clean
