#!/usr/bin/env bash
# All that must hold, cheapest first. Every step runs even when an earlier one
# failed, and is counted; logs stay under $logs. Called by `make test`.
set -uo pipefail
cd "$(dirname "$0")/.."

cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
export PATH=$PATH:$cache/cargo-deny/bin:/usr/sbin:/sbin
profiles=(hypervisor network database-tier)
logs=out/test-logs
mkdir -p "$logs"
passed=0 failed=0

step() { # name, command...
  local name=$1 started=$SECONDS code=0; shift
  printf '== %s\n' "$name"
  "$@" >"$logs/$name.log" 2>&1 || code=$?
  judge "$code" "$name" "$started"
}

judge() { # exit code, name, start
  if [ "$1" = 0 ]; then
    passed=$((passed + 1))
    printf '   %s: passed after %d s\n' "$2" $((SECONDS - $3))
  else
    failed=$((failed + 1))
    printf '   %s: FAILED after %d s; the end of %s:\n' "$2" $((SECONDS - $3)) "$logs/$2.log"
    tail -n 40 "$logs/$2.log" | sed 's/^/   | /'
  fi
}

together() { # name, command, name, command, ...: steps at once
  local started=$SECONDS running=()
  printf '==%s\n' "$(printf ' %s' "$@" | sed -E 's/ (\S+) \S+/ \1/g')"
  while [ $# -gt 0 ]; do
    "$2" >"$logs/$1.log" 2>&1 &
    running+=("$1" $!)
    shift 2
  done
  set -- "${running[@]}"
  while [ $# -gt 0 ]; do
    wait "$2"; judge $? "$1" "$started"
    shift 2
  done
}

builder=${CARGO_TARGET_DIR:-target}/debug/sf-image

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step deny cargo deny --log-level error check bans licenses sources
step unit-and-mariadb cargo test --workspace --locked --no-fail-fast
step compile cargo build --workspace --locked
step check-profiles "$builder" check
step images "$builder" build --output-dir out $(printf -- '--profile %s ' "${profiles[@]}")
step builder-parts cargo test -p sf-image --test builder_parts --locked -- --ignored
step build-failures tests/build-failures.sh "$builder" out

# Under emulation a machine keeps one processor busy: two at a time on a small
# host. The port of etcd is fixed, so one of the two scenarios with etcd has a
# network of its own.
boot() { "$builder" boot-test --scenario "tests/boot/$1.toml" --images out; }
apart() { unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$builder" boot-test --scenario "tests/boot/$1.toml" --images out; }
first_boot() { apart first-boot; }
database_down() { boot database-down; }
refusals() { boot too-new && boot tampered; }
if [ "$(nproc)" -ge 4 ]; then
  together boot-first-boot first_boot boot-database-down database_down boot-too-new-and-tampered refusals
else
  step boot-first-boot first_boot
  together boot-database-down database_down boot-too-new-and-tampered refusals
fi

# What the tests themselves counted, so that an empty suite cannot look green.
counted=$(awk '/^test result: ok\./ { n += $4 } END { print n + 0 }' "$logs/unit-and-mariadb.log")
echo "Rust tests that passed: $counted"
[ "$counted" -gt 0 ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
