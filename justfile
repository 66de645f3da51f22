# The stages of .ci/run, one recipe each: `just --list`, `just test`. Each says what it needs; .ci/run installs that.

set shell := ["bash", "-euo", "pipefail", "-c"]

arch := `uname -m`
tools := justfile_directory() / "target/tools"

# Lists the recipes.
default:
    @just --list --unsorted

# Checks the formatting.
fmt:
    cargo fmt --all --check

# Runs clippy, and rustdoc with private items: the readers of the docs are those who change the program. Bounds names and
# checks the imports (Python).
lint:
    .ci/check-imports.py
    ! git grep -nE 'fn [a-z0-9_]{60,}' -- '*.rs'
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --locked

# Runs every test that needs only Rust, a C compiler and make.
test *ARGS:
    cargo test --workspace {{ ARGS }}

# Runs these tests RUNS times while the processors are busy with twice as many other processes.
busy RUNS="10" *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p target
    cargo test --no-run {{ if ARGS == "" { "--workspace" } else { ARGS } }}
    trap 'kill $(jobs -p)' EXIT
    for _ in $(seq $((2 * $(nproc)))); do timeout 1h sh -c 'while :; do :; done' & done
    for run in $(seq {{ RUNS }}); do
        timeout 15m cargo test {{ if ARGS == "" { "--workspace" } else { ARGS } }} >target/busy.log 2>&1 || { cat target/busy.log; exit 1; }
        echo "$run of {{ RUNS }} passed"
    done

# Checks spelling, words and links of the docs, and builds the book (Python).
docs *ARGS:
    .ci/docs {{ ARGS }}

# Checks the workflows (Go, or Python to get it).
workflows:
    .ci/workflows

# Checks the shipped configuration, alerts, units, man pages and completions (Prometheus, systemd, groff).
shipped:
    .ci/shipped

# Compares signatures with botocore (Python).
botocore:
    python3 -m venv target/botocore
    target/botocore/bin/pip install --quiet --disable-pip-version-check -r tests/fake-domain/botocore/requirements.txt
    cargo build --workspace --bins
    target/botocore/bin/python tests/fake-domain/botocore/compare.py target/debug/fake-domain

# Tests the stack on moto, with cfn-lint and checkov (Python, a JDK, Maven).
test-stack:
    cloudformation/test

# Tests the image and the packages (root, Packer, Buildah, debootstrap, systemd-nspawn, a JDK, Maven).
package:
    packer/test

# Makes the function's archive as it is shipped (Python).
package-function:
    ingest/package {{ arch }}

# Downloads and builds all engines and Kibana (a JDK, Maven, npm).
prepare-engines:
    for engine in tests/engines/*/pom.xml; do tests/engines/run.sh "$(basename "$(dirname "$engine")")" --prepare; done
    tests/engines/kibana-5.1/run.sh --prepare

# Runs the tests that need more than Rust, with the binaries as they are shipped; FILTERS pick some.
test-ignored *FILTERS:
    program=$(packer/compile trailgate trailgate {{ arch }}) && \
      TRAILGATE=$PWD/$program BOOTSTRAP=$PWD/target/{{ arch }}-unknown-linux-gnu/release/bootstrap \
      cargo test --workspace -- --ignored --test-threads 1 {{ FILTERS }}

# Runs the tests against real engines and their official clients (a JDK, Maven, Python, npm).
test-engines: prepare-engines package-function (test-ignored "engines::" "emulator::" "dashboards::" "kibana::install::")

# Runs the tests in Chromium, and with curl and h2load (the same, Chromium, curl, h2load).
test-browser: prepare-engines (test-ignored "kibana::" "browser::")

# Runs the tests against moto, Amazon's metadata mock and Prometheus (Python, Prometheus).
test-services: (test-ignored "credentials::" "bucket::" "metrics::" "oracle::")

# Runs all tests that those three leave out.
test-others: prepare-engines package-function (test-ignored "--skip" "engines::" "--skip" "emulator::" "--skip" "dashboards::" "--skip" "kibana::" "--skip" "browser::" "--skip" "credentials::" "--skip" "bucket::" "--skip" "metrics::" "--skip" "oracle::")

# Builds the programs for arm64, and runs their tests with them (QEMU, Arm's C library, rustup; a JDK, Maven, Python).
test-arm:
    .ci/arm

# Fuzzes each target for some seconds (a C++ compiler).
fuzz SECONDS="20":
    .ci/fuzz {{ SECONDS }}

# Holds the instructions a request costs to benches/instructions/limits.json (Valgrind).
bench:
    benches/instructions/run

# Checks licences, duplicates and sources of dependencies.
deny:
    cargo install --quiet --locked --debug --root {{ tools }} --version '^0.20' cargo-deny
    # Not the advisories: their database is not in a package registry.
    {{ tools }}/bin/cargo-deny --locked --workspace check licenses bans sources

# Checks with the oldest compiler that is supported, which rustup has to have.
msrv:
    cargo +"$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" check --workspace --all-targets --locked

# Checks with the lowest versions of the direct dependencies (a nightly toolchain).
minimal-versions:
    mkdir -p target && cp Cargo.lock target/Cargo.lock.kept
    trap 'cp target/Cargo.lock.kept Cargo.lock' EXIT && \
      cargo +nightly -Z direct-minimal-versions update && cargo check --workspace --all-targets
