#!/usr/bin/env bash
# Builds that must fail, for real: each with its exit code, an error that names
# the cause, and the previous image untouched. Needs root, the network and a
# cache that a build has filled; run by tests/all.sh after the images.
# Usage: build-failures.sh SF_IMAGE IMAGES (the folder with the images)
set -euo pipefail
sf_image=$(realpath "$1") images=$(realpath "$2")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/var/tmp}/sf-build-failures.XXXXXX")
small=$work/small
cleanup() { mountpoint -q "$small" && umount "$small"; rm -rf "$work"; }
trap cleanup EXIT

fail() { echo "FAILED: $*" >&2; sed 's/^/  | /' "$work/err" >&2; exit 1; }
cases=0
case_() { cases=$((cases + 1)); echo "$*"; }
expect() { # exit code, texts that the error must have (one a line) -- command
  local wanted=$1 texts=$2 code=0; shift 3
  "$@" >"$work/stdout" 2>"$work/err" || code=$?
  [ "$code" = "$wanted" ] || fail "exit $code instead of $wanted: $*"
  while IFS= read -r text; do
    grep -qF -- "$text" "$work/err" || fail "the error does not say \"$text\""
  done <<<"$texts"
}
checkout() { # folder, profile: a copy of the documents; standard input is appended to the profile
  mkdir "$1"
  cp -a "$root"/{profiles,releases,mkosi.conf.d,mkosi.extra,mkosi.repart,mkosi.images,mkosi.finalize} "$1"
  cat >>"$1/profiles/$2.toml"
}
version=$(ls -d "$images"/database-tier/*/ | sort -V | tail -n 1 | xargs basename)
agent=$("$sf_image" render --profile database-tier --output-dir "$work/rendered" >/dev/null && readlink -f "$work/rendered/agent")
build() { "$sf_image" build --agent "$agent" --image-version 1 "$@"; }

case_ "a package that does not exist"
checkout "$work/missing" test <<'T'
schema = 1
summary = "asks for what is not there"
extends = "database-tier"
packages = ["no-such-package-as-this"]
T
expect 78 "no-such-package-as-this" -- build --root "$work/missing" --profile test --output-dir "$work/missing/out"
[ ! -e "$work/missing/out/test/1" ] || fail "published in spite of it"

case_ "what must not be in an image"
# In the role's own profile, so that the build finds its base tree in the cache.
checkout "$work/planted" database-tier <<'T'
[[file]]
path = "/usr/lib/planted/key.pem"
source = "planted.key"
[[file]]
path = "/etc/default/planted"
content = "dsn = mysql://sf:Zk3hQv9T@db/shakenfist\n"
[[file]]
path = "/etc/sf/config"
content = "SHAKENFIST_X=\"1\"\n"
T
printf -- '-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n' "$(head -c 96 /dev/urandom | base64 -w 64)" >"$work/planted/profiles/planted.key"
expect 77 "private-key: /usr/lib/planted/key.pem
password: /etc/default/planted
node-config: /etc/sf/config" -- build --root "$work/planted" --profile database-tier --output-dir "$work/planted/out"
! grep -q Zk3hQv9T "$work/err" || fail "the error shows the planted password"
[ ! -e "$work/planted/out/database-tier/1" ] || fail "published in spite of it"

case_ "a build killed half-way: the previous image stays, nothing goes on running, the next build works"
out=$work/killed
mkdir -p "$out/database-tier"
cp -a --sparse=always "$images/database-tier/$version" "$out/database-tier/"
before=$(cd "$out/database-tier/$version" && sha256sum SHA256SUMS manifest.json)
again() { "$sf_image" build --agent "$agent" --image-version "$version" --root "$root" --profile database-tier --output-dir "$out" --force 2>"$work/err" >/dev/null; }
again &
killed=$!
for _ in $(seq 600); do
  grep -q "database-tier: image" "$work/err" && pgrep -f "mkosi .*$out" >/dev/null && break
  sleep 0.2
done
pgrep -f "mkosi .*$out" >/dev/null || fail "mkosi did not start"
sleep 3
# The shell's child is a subshell; the builder is the process below it.
kill -KILL $(pgrep -P "$killed") "$killed"
wait "$killed" 2>/dev/null || true
sleep 1
! pgrep -f "$out" >/dev/null || fail "something goes on running: $(pgrep -af "$out")"
[ "$before" = "$(cd "$out/database-tier/$version" && sha256sum SHA256SUMS manifest.json)" ] || fail "the previous image changed"
(cd "$out/database-tier/$version" && sha256sum --quiet --check SHA256SUMS) || fail "the previous image is damaged"
again || fail "the next build"
! ls -d "$out"/database-tier/.partial-* >/dev/null 2>&1 || fail "a partial folder is left"

case_ "a full disk"
mkdir "$small"
mount -t tmpfs -o size=64M tmpfs "$small"
expect 69 "$small
free" -- build --root "$root" --profile database-tier --output-dir "$small/out"
umount "$small"

case_ "a disk that fills up while mkfs.erofs writes, which then waits for ever"
cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
mkdir "$work/filled"
filled() {
  mount -t tmpfs -o size=3G tmpfs "$cache/work"
  build --root "$root" --profile database-tier --output-dir "$work/filled" &
  for _ in $(seq 600); do
    grep -qs "Ready to populate erofs" "$work"/filled/database-tier/1.log && break
    sleep 0.2
  done
  cat /dev/zero >"$cache/work/filler" || true # until nothing is left
  wait $!
}
export -f filled build
expect 69 "erofs_io: failed to write: No space left on device
free some space" -- env sf_image="$sf_image" agent="$agent" root="$root" work="$work" cache="$cache" timeout 300 unshare --mount bash -c filled
[ ! -e "$work/filled/database-tier/1" ] || fail "published in spite of it"

case_ "an output folder that cannot be written"
expect 69 "/proc/sf-image-out" -- build --root "$root" --profile database-tier --output-dir /proc/sf-image-out

case_ "no network and nothing cached"
expect 69 "error:" -- unshare --net env SF_CACHE_DIR="$work/empty" "$sf_image" build --agent "$agent" --root "$root" --profile database-tier --output-dir "$work/offline"

case_ "no root"
install -m 0755 "$sf_image" "$work/sf-image"
chmod 0755 "$work"
checkout "$work/unprivileged" database-tier </dev/null
mkdir -m 0777 "$work/home"
expect 69 "root" -- setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$work/home" "$work/sf-image" build --root "$work/unprivileged" --profile database-tier --output-dir "$work/home/out"
echo "$cases passed, 0 failed"
