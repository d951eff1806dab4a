# `make demo` and `make test` work from a fresh clone: they set up what is missing first, and say what they install.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
JURIST := ./target/release/jurist

.PHONY: help setup demo test build driver fmt clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 10

setup: ## install the Rust toolchain of rust-toolchain.toml if it is missing
	@scripts/setup.sh rust

build: setup ## compile target/release/jurist
	cargo build --release --locked

driver: build ## install a software Vulkan driver, only if this machine has no adapter at all
	@scripts/setup.sh driver $(JURIST)

demo: driver ## train a small judge from scratch and write demo/report.html
	$(JURIST) demo

test: driver ## everything that CI runs: format, lints, tests, browser, other targets
	@scripts/setup.sh browser
	@scripts/setup.sh targets
	@scripts/test.sh

fmt: setup ## format the code
	cargo fmt

clean: ## remove what was built
	rm -rf target demo
