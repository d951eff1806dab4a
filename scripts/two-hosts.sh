#!/usr/bin/env bash
# Plays two machines for mpirun on one: two network namespaces, each with its own host name and address, joined by a cable (a veth
# pair). They share the file system, as machines of a cluster share a folder. OpenMPI starts its helper on the second one by a
# script of ours where it would take ssh. That needs root, Linux, iproute2 and OpenMPI.
#
#   scripts/two-hosts.sh N COMMAND…    COMMAND on 2 N ranks, the first N on the first host; FLAGS has more flags of mpirun
#   scripts/two-hosts.sh --reason      why this machine cannot play, or nothing
set -uo pipefail

FIRST=10.213.7.1 SECOND=10.213.7.2

fail() { echo "two-hosts: $*" >&2; exit 1; }

reason() {
    [ "$(uname)" = Linux ] || { echo "network namespaces are Linux's"; return; }
    [ "$(id -u)" -eq 0 ] || { echo "needs root, to make network namespaces"; return; }
    for tool in ip unshare mpirun; do
        command -v $tool >/dev/null || { echo "there is no $tool"; return; }
    done
    mpirun --version 2>/dev/null | grep -q 'Open MPI' || { echo "mpirun is not that of OpenMPI"; return; }
    local name="jurist-$$-try" said
    if said="$( (ip netns add "$name" && ip -n "$name" link add cable type veth peer name other) 2>&1)"; then
        ip netns delete "$name"
    else
        ip netns delete "$name" 2>/dev/null
        echo "a network namespace with a veth pair cannot be made here: $(head -1 <<<"$said")"
    fi
}

# What mpirun calls in place of ssh: `agent ADDRESS COMMAND…`.
agent() {
    [ "$1" = "$SECOND" ] || fail "there is no host $1"
    shift
    # As ssh does, a shell of that host reads the words.
    exec ip netns exec "$JURIST_HOSTS-b" unshare --uts sh -c "hostname jurist-b; $*"
}

# Two hosts, which are gone when the command has ended.
hosts() {
    local ranks="$1" name="jurist-$$" code
    shift
    export JURIST_HOSTS="$name"
    trap 'ip netns delete "$JURIST_HOSTS-a" 2>/dev/null; ip netns delete "$JURIST_HOSTS-b" 2>/dev/null' EXIT
    ip netns add "$name-a" && ip netns add "$name-b" || exit 1
    ip -n "$name-a" link add cable type veth peer name cable netns "$name-b" || exit 1
    ip -n "$name-a" address add "$FIRST/24" dev cable && ip -n "$name-b" address add "$SECOND/24" dev cable || exit 1
    for side in a b; do ip -n "$name-$side" link set lo up && ip -n "$name-$side" link set cable up || exit 1; done
    # No address but these: neither host can reach anything else.
    # shellcheck disable=SC2086
    ip netns exec "$name-a" unshare --uts sh -c 'hostname jurist-a; exec "$@"' sh \
        mpirun --allow-run-as-root --oversubscribe --bind-to none --mca plm_rsh_agent "$(realpath "$0") --agent" \
        --mca oob_tcp_if_include cable --mca btl_tcp_if_include cable ${FLAGS:-} \
        --host "$FIRST:$ranks,$SECOND:$ranks" -n $((2 * ranks)) "$@" &
    # Signals are for mpirun, which hands them on.
    trap 'kill -TERM "$!"' TERM
    trap 'kill -INT "$!"' INT
    wait "$!"
    code=$?
    while kill -0 "$!" 2>/dev/null; do wait "$!"; code=$?; done
    return $code
}

case "${1:-}" in
    --reason) reason ;;
    --agent) shift; agent "$@" ;;
    [1-9]*) why="$(reason)"; [ -z "$why" ] || fail "$why"; hosts "$@" ;;
    *) echo "usage: $0 N COMMAND… | --reason" >&2; exit 2 ;;
esac
