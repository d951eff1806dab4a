#!/usr/bin/env bash
# llama.cpp of Debian's newest suite, unpacked into target/llama.cpp and run with that suite's own loader; nothing is installed.
# Usage: scripts/llama-cpp.sh fetch [vulkan] | scripts/llama-cpp.sh run PROGRAM ARGUMENTS | scripts/llama-cpp.sh best PROGRAM ARGUMENTS
# `run` has the CPU's kernels for AVX2. `best` takes those that fit this CPU best, and Vulkan too if that was fetched; paths among
# its arguments are absolute.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where it was unpacked: by `fetch vulkan`, if that was asked for, or by `fetch`.
dir="$PWD/target/llama.cpp-vulkan"
[ -e "$dir/packages" ] || dir="$PWD/target/llama.cpp"
lib="$dir/root/usr/lib/x86_64-linux-gnu"

fetch() {
    if [ "${1:-}" = vulkan ]; then
        scripts/debian-sid.sh "$PWD/target/llama.cpp-vulkan" llama.cpp-tools libggml0-backend-vulkan mesa-vulkan-drivers
    else
        scripts/debian-sid.sh "$PWD/target/llama.cpp" llama.cpp-tools
    fi
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
