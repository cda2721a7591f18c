#!/usr/bin/env bash
# Unpacks Debian 13's MariaDB 11.8 into the cache, with the libraries that it
# needs, for the tests that run against it beside the host's own version. Nothing
# is installed: apt gets a private state, and the server runs with the unpacked
# C library. Does nothing when it is there.
set -euo pipefail

cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
tree=$cache/mariadb-11.8
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -d "$tree" ] && exit

fail() { echo "error: $*" >&2; exit 1; }

command -v apt-get >/dev/null || fail "no apt-get here; tests against MariaDB 11.8 need a Debian or Ubuntu host"
[ -e "$keyring" ] || fail "$keyring is missing; install the package debian-archive-keyring"
mirror=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)|$(COMPONENT)' 'Created-By: Packages' |
  awk -F'|' '$1 == "Debian" && $3 == "main" && $2 ~ /^https?:/ { print $2; exit }')
[ -n "$mirror" ] || fail "the host's apt sources name no Debian archive"

echo "Unpacking Debian 13's MariaDB 11.8 into $tree, once" >&2
mkdir -p "$cache"
work=$(mktemp -d "$cache/.partial-mariadb-11.8-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d,tree}
touch "$work/state/status"
echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/etc/sources.list"
{ # The host's own way to the mirror, then what makes this state private.
  apt-config dump | grep -E '^Acquire::(http|https)::' || true
  cat <<EOF
Dir::Etc "$work/etc";
Dir::Etc::SourceList "$work/etc/sources.list";
Dir::Etc::SourceParts "$work/etc/none";
Dir::State "$work/state";
Dir::State::Status "$work/state/status";
Dir::Cache "$work/cache";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
EOF
} >"$work/apt.conf"
export APT_CONFIG=$work/apt.conf
log=$work/log
if ! { apt-get update && apt-get -y --download-only install mariadb-server-core; } >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  fail "Debian 13's packages could not be fetched from $mirror"
fi
for package in "$work"/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$work/tree"
done
[ -x "$work/tree/usr/sbin/mariadbd" ] || fail "the packages brought no mariadbd"
mv -T "$work/tree" "$tree" 2>/dev/null || [ -d "$tree" ]
