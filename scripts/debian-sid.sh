#!/usr/bin/env bash
# Packages of Debian's newest suite with all that they need, unpacked into FOLDER/root for programs that are run with that suite's
# own loader; nothing is installed. FOLDER/packages lists them after a line with what was asked for: as long as the same is asked
# for, nothing is fetched again.
# Usage: scripts/debian-sid.sh FOLDER PACKAGE…
set -euo pipefail
dir="$(realpath -m "${1:?the folder}")"
shift
[ $# -gt 0 ] || { echo "usage: $0 FOLDER PACKAGE…" >&2; exit 2; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "$* (for $wanted)" >&2; exit 1; }
wanted="$*"

asked="asked for: $(printf '%s\n' "$@" | LC_ALL=C sort -u | paste -sd ' ')"
[ "$(head -n 1 "$dir/packages" 2>/dev/null)" = "$asked" ] && exit
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "this needs Debian: there is no apt-get or no dpkg-deb"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "this needs Debian on amd64, found $(dpkg --print-architecture)"
[ -e "$keyring" ] || fail "this needs Debian's keys in $keyring: apt-get install debian-archive-keyring"
mirror="$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ' || true)"
[ -n "$mirror" ] || fail "there is no mirror of Debian in /etc/apt"

mkdir -p "$dir"/apt/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,state/lists/partial,cache/archives/partial}
: >"$dir/apt/status"
echo "deb [signed-by=$keyring] $mirror sid main" >"$dir/apt/etc/sources.list"
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
APT::Update::Error-Mode "any";
C
export APT_CONFIG="$dir/apt/apt.conf"
echo "fetching the lists of Debian's newest suite (some 10 MB)" >&2
apt-get -qq update >&2 || fail "the lists of $mirror could not be fetched: is there a network?"

# With everything that they need, as nothing counts as installed.
install=(apt-get -qq -y --no-install-recommends)
uris="$("${install[@]}" --print-uris install "$@")" || fail "Debian's newest suite has not all of them"
files="$(awk '{ print $2 }' <<<"$uris")"
awk -v into="$dir" '{ bytes += $3 } END { printf "fetching %d packages, %.0f MB, unpacked into %s\n", NR, bytes / 1e6, into }' <<<"$uris" >&2
"${install[@]}" --download-only install "$@" >&2 || fail "not all packages could be fetched from $mirror"
rm -rf "$dir/root" "$dir/packages"
mkdir "$dir/root"
for file in $files; do dpkg-deb -x "$dir/apt/cache/archives/$file" "$dir/root"; done
rm -rf "$dir/apt"
{ echo "$asked"; tr ' ' '\n' <<<"$files"; } >"$dir/packages.part"
mv "$dir/packages.part" "$dir/packages"
