#!/usr/bin/env bash
# llama.cpp of Debian's newest suite, unpacked into target/llama.cpp and run with that suite's own loader; nothing is installed.
# Usage: scripts/llama-cpp.sh fetch [vulkan] | scripts/llama-cpp.sh run PROGRAM ARGUMENTS | scripts/llama-cpp.sh best PROGRAM ARGUMENTS
# `run` has the CPU's kernels for AVX2. `best` takes those that fit this CPU best, and Vulkan too if that was fetched; paths among
# its arguments are absolute.
set -euo pipefail
cd "$(dirname "$0")/.."
dir="$PWD/target/llama.cpp"
lib="$dir/root/usr/lib/x86_64-linux-gnu"

fetch() {
    local mirror
    local packages=(llama.cpp-tools) found="$dir/root/usr/bin/llama-server"
    if [ "${1:-}" = vulkan ]; then
        packages+=(libggml0-backend-vulkan mesa-vulkan-drivers)
        found="$lib/ggml/backends0/libggml-vulkan.so"
    fi
    [ -e "$found" ] && return
    mkdir -p "$dir"/apt/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,state/lists/partial,cache/archives/partial} "$dir/root"
    : >"$dir/apt/status"
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ' || true)
    [ -n "$mirror" ] || { echo "no Debian mirror in /etc/apt: llama.cpp cannot be fetched" >&2; exit 1; }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$dir/apt/etc/sources.list"
    cat >"$dir/apt/apt.conf" <<C
Dir::Etc "$dir/apt/etc";
Dir::Etc::sourcelist "sources.list";
Dir::Etc::sourceparts "sources.list.d";
Dir::Etc::parts "apt.conf.d";
Dir::State "$dir/apt/state";
Dir::State::status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
APT::Sandbox::User "root";
C
    export APT_CONFIG="$dir/apt/apt.conf"
    apt-get -q update
    # With everything that they need, as nothing counts as installed.
    apt-get -q -y --download-only --no-install-recommends install "${packages[@]}"
    for package in "$dir"/apt/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
}

run() {
    # The kernels for AVX2; Debian's build looks for them in its own folder of the system.
    export GGML_BACKEND_PATH="$lib/ggml/backends0/libggml-cpu-haswell.so"
    start "$@"
}

best() {
    # It looks for backends in the folder that it is started in, too.
    cd "$lib/ggml/backends0"
    if [ -e "$lib/libvulkan_lvp.so" ]; then
        printf '{"file_format_version":"1.0.0","ICD":{"api_version":"1.4.305","library_path":"%s"}}' "$lib/libvulkan_lvp.so" >"$dir/lavapipe.json"
        export VK_DRIVER_FILES="$dir/lavapipe.json"
    fi
    start "$@"
}

start() {
    local program="$1" loader
    shift
    loader=$(find "$dir/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
    exec "$loader" --library-path "$lib:$lib/llama:$lib/ggml:$(find "$lib" -name 'libggml*.so*' -printf '%h\n' | sort -u | paste -sd:)" "$dir/root/usr/bin/$program" "$@"
}

case "${1:-}" in
    fetch) fetch "${2:-}" ;;
    run | best) "$@" ;;
    *) echo "usage: $0 fetch [vulkan] | run PROGRAM ARGUMENTS | best PROGRAM ARGUMENTS" >&2; exit 2 ;;
esac
