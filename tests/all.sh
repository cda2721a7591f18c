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
rm -f "$logs"/*.result
passed=0 failed=0

run() { # name, command...: the command's output, exit code and seconds go to files
  local name=$1 started=$SECONDS code=0; shift
  "$@" >"$logs/$name.log" 2>&1 || code=$?
  echo "$code $((SECONDS - started))" >"$logs/$name.result"
}

judge() { # name
  local code seconds
  read -r code seconds <"$logs/$1.result"
  if [ "$code" = 0 ]; then
    passed=$((passed + 1))
    printf '   %s: passed after %d s\n' "$1" "$seconds"
  else
    failed=$((failed + 1))
    printf '   %s: FAILED after %d s; from %s, where it failed and the end:\n' "$1" "$seconds" "$logs/$1.log"
    # With --no-fail-fast the tests that failed stand far from the end.
    { grep -nE -A4 ' FAILED$|panicked at|^error' "$logs/$1.log" | head -n 60; echo ...; tail -n 20 "$logs/$1.log"; } \
      | sed 's/^/   | /'
  fi
}

step() { # name, command...
  printf '== %s\n' "$1"
  run "$@"
  judge "$1"
}

together() { # name, command, name, command, ...: steps at once
  local names=() name
  printf '==%s\n' "$(printf ' %s' "$@" | sed -E 's/ (\S+) \S+/ \1/g')"
  while [ $# -gt 0 ]; do
    run "$1" "$2" &
    names+=("$1")
    shift 2
  done
  wait
  for name in "${names[@]}"; do judge "$name"; done
}

# Tests run as root, and what one leaves behind can make another fail, in the
# next run on this machine at the latest.
places() { git status --porcelain; find / -mindepth 1 -maxdepth 1 | sort; }
nothing_left_behind() { places | diff "$logs/places" -; }
places >"$logs/places"

# A fault that no test strikes any more, and a test that is only switched off,
# would leave everything green.
sections_are_those_of_the_document() {
  diff <(sed -n 's/^## //p' docs/reference/crash-matrix.md | sort -u) <(sort -u "$SF_SECTIONS")
}
nothing_else_is_ignored() {
  diff <(sed 's/#.*//; s/ *$//; /^$/d' tests/ignored | sort) \
    <(sed -nE 's/^test (.*) \.\.\. ignored.*/\1/p' "$logs/unit-and-mariadb.log" | sort)
}

builder=${CARGO_TARGET_DIR:-target}/debug/sf-image
export SF_SECTIONS=$PWD/$logs/sections
rm -f "$SF_SECTIONS"

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step deny cargo deny --log-level error check bans licenses sources
step unit-and-mariadb cargo test --workspace --locked --no-fail-fast
step crash-matrix-is-whole sections_are_those_of_the_document
step ignored-tests nothing_else_is_ignored
step compile cargo build --workspace --locked
step check-profiles "$builder" check
step images "$builder" build --output-dir out $(printf -- '--profile %s ' "${profiles[@]}")
step builder-parts cargo test -p sf-image --test builder_parts --locked -- --ignored
step build-failures tests/build-failures.sh "$builder" out

# Under emulation a machine keeps one processor busy: a small host gets two at a
# time, others the fifth for a while. The port of etcd is fixed, so one of the
# two scenarios with etcd has a network of its own.
boot() { "$builder" boot-test --scenario "tests/boot/$1.toml" --images out; }
apart() { unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$builder" boot-test --scenario "tests/boot/$1.toml" --images out; }
first_boot() { apart first-boot; }
database_down() { boot database-down; }
refusals() { boot too-new && boot tampered; }
if [ "$(nproc)" -ge 4 ]; then
  together boot-first-boot first_boot boot-database-down database_down boot-too-new-and-tampered refusals
else
  step boot-first-boot first_boot
  step boot-database-down database_down
  step boot-too-new-and-tampered refusals
fi

step nothing-left-behind nothing_left_behind

# What the tests themselves counted, so that an empty suite cannot look green.
counted=$(awk '/^test result: ok\./ { n += $4 } END { print n + 0 }' "$logs/unit-and-mariadb.log")
echo "Rust tests that passed: $counted"
[ "$counted" -gt 0 ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
