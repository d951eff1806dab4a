#!/usr/bin/env bash
# Sets up what a fresh machine lacks. Says what it installs, installs nothing that is there, never fails silently.
#
#   scripts/setup.sh rust             toolchain, components and targets of rust-toolchain.toml, and a linker
#   scripts/setup.sh targets          the targets that `make test` checks besides
#   scripts/setup.sh driver PROGRAM   a software Vulkan driver, if `PROGRAM doctor --list` finds no adapter
#   scripts/setup.sh wasm-bindgen     the tool that makes a JavaScript module of the wasm, in the version of Cargo.lock
#   scripts/setup.sh browser          Chromium, which compiles every shader as browsers do
#   scripts/setup.sh page             Node and the driver of the browser tests in web/tests
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The values of one key of rust-toolchain.toml, one a line.
toolchain() { sed -nE "s/^$1 *= *//p" rust-toolchain.toml | tr -d '[]" ' | tr ',' '\n'; }

# Installs Debian packages, as root or through sudo.
apt_install() {
    have apt-get || fail "please install $* (or what your system calls it); only Debian and Ubuntu are set up by themselves"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "no sudo here: please run as root: apt-get install $*"
        root=(sudo)
    fi
    say "installing $* with apt-get"
    local quiet=(-qq -o=Dpkg::Use-Pty=0)
    "${root[@]}" apt-get update "${quiet[@]}" || fail "apt-get update failed (see above)"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${quiet[@]}" "$@" >/dev/null ||
        fail "apt-get could not install $* (see above)"
}

# Installs the targets given that the toolchain does not have.
rust_targets() {
    local target library
    library="$(rustc --print sysroot)/lib/rustlib"
    for target in "$@"; do
        [ -d "$library/$target/lib" ] && continue
        have rustup || fail "rustc $(toolchain channel) has no target $target and there is no rustup to add it: https://rustup.rs"
        say "installing the Rust target $target"
        rustup target add --toolchain "$(toolchain channel)" "$target" || fail "rustup could not install $target"
    done
}

setup_rust() {
    local channel
    channel="$(toolchain channel)"
    if ! have rustup && ! have cargo; then
        fail "Rust is missing. Install rustup from https://rustup.rs (or your package manager), then run make again"
    fi
    if have rustup && ! rustup run "$channel" rustc --version >/dev/null 2>&1; then
        say "installing Rust $channel with rustup"
        rustup toolchain install "$channel" --profile minimal --no-self-update || fail "rustup could not install Rust $channel"
    fi
    case "$(rustc --version)" in
        "rustc $channel "*) ;;
        *) fail "this needs Rust $channel, found $(rustc --version); install rustup (https://rustup.rs), which picks it" ;;
    esac
    for component in $(toolchain components); do
        [ "$component" = clippy ] && component=cargo-clippy
        [ -x "$(rustc --print sysroot)/bin/$component" ] || [ -x "$(rustc --print sysroot)/bin/$component.exe" ] && continue
        have rustup || fail "$component is missing and there is no rustup to add it: https://rustup.rs"
        say "installing ${component#cargo-}"
        rustup component add --toolchain "$channel" "${component#cargo-}" || fail "rustup could not install ${component#cargo-}"
    done
    # shellcheck disable=SC2046
    rust_targets $(toolchain targets)
    if [ "$(uname)" = Linux ] && ! have cc; then
        apt_install gcc libc6-dev # Rust links with it
    fi
}

setup_driver() {
    local found
    if found="$("$1" doctor --list 2>&1)"; then return; fi
    say "no GPU adapter was found; a software driver (mesa-vulkan-drivers) can stand in"
    [ "$(uname)" = Linux ] || fail "$found"
    apt_install mesa-vulkan-drivers
    found="$("$1" doctor --list 2>&1)" || fail "there is still no adapter: $found"
    say "adapters now: $found"
}

setup_browser() {
    if [ "${JURIST_SKIP_BROWSER:-}" = 1 ]; then return; fi # tests/tint.rs says that it skips
    for name in chromium chromium-browser google-chrome-stable google-chrome chrome; do
        if have "$name"; then return; fi
    done
    say "no Chromium was found; make test compiles every shader in it"
    case "$(uname)" in
        Linux) apt_install chromium ;;
        *) fail "please install Chrome or Chromium and put its program on the PATH, or skip this with JURIST_SKIP_BROWSER=1" ;;
    esac
}

# Tool and library must have the same version: they share a format that changes.
setup_wasm_bindgen() {
    local version
    version="$(awk '/^name = "wasm-bindgen"$/ { getline; gsub(/[^0-9.]/, ""); print; exit }' Cargo.lock)"
    [ -n "$version" ] || fail "Cargo.lock names no wasm-bindgen"
    if have wasm-bindgen && [ "$(wasm-bindgen --version)" = "wasm-bindgen $version" ]; then return; fi
    say "compiling wasm-bindgen-cli $version (some minutes, once)"
    cargo install --locked --quiet --force wasm-bindgen-cli --version "=$version" && return
    # A registry mirror may lag behind the tool's lock file; its version is still exactly ours.
    say "its own lock file cannot be used here; trying with the newest dependencies that can"
    cargo install --quiet --force wasm-bindgen-cli --version "=$version" || fail "wasm-bindgen-cli $version could not be installed"
}

setup_page() {
    if [ "${JURIST_SKIP_BROWSER:-}" = 1 ]; then return; fi # scripts/test.sh says that it skips
    have node && have npm || apt_install nodejs npm
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
        fail "the page's tests need Node 20 or later, found $(node --version): https://nodejs.org"
    if (cd web/tests && npm ls --silent >/dev/null 2>&1); then return; fi
    say "installing the browser driver of web/tests with npm"
    (cd web/tests && npm ci --silent --no-audit --no-fund) || fail "npm could not install what web/tests/package-lock.json names"
}

case "${1:-}" in
    rust) setup_rust ;;
    targets) rust_targets wasm32-unknown-unknown x86_64-pc-windows-msvc aarch64-apple-darwin ;;
    driver) setup_driver "${2:?the program to ask}" ;;
    browser) setup_browser ;;
    page) setup_page ;;
    wasm-bindgen) setup_wasm_bindgen ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
