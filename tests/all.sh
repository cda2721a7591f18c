#!/usr/bin/env bash
# All that must hold, cheapest first. Every step runs even when an earlier one
# failed, and is counted; logs stay under $logs. Called by `make test`.
set -uo pipefail
cd "$(dirname "$0")/.."

cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
export PATH=$PATH:$cache/cargo-deny/bin:/usr/sbin:/sbin
profiles=(hypervisor network database-tier)
scenarios=(first-boot database-down too-new tampered)
logs=out/test-logs
mkdir -p "$logs"
passed=0 failed=0

step() { # name, command...
  local name=$1 started=$SECONDS; shift
  printf '== %s\n' "$name"
  if "$@" >"$logs/$name.log" 2>&1; then
    passed=$((passed + 1))
    printf '   passed in %d s\n' $((SECONDS - started))
  else
    failed=$((failed + 1))
    printf '   FAILED in %d s; the end of %s:\n' $((SECONDS - started)) "$logs/$name.log"
    tail -n 40 "$logs/$name.log" | sed 's/^/   | /'
  fi
}

sf_image() { cargo run --quiet --locked -p sf-image -- "$@"; }

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step deny cargo deny --log-level error check bans licenses sources
step unit-and-mariadb cargo test --workspace --locked
step check-profiles sf_image check
step images sf_image build --output-dir out $(printf -- '--profile %s ' "${profiles[@]}")
for scenario in "${scenarios[@]}"; do
  step "boot-$scenario" sf_image boot-test --scenario "tests/boot/$scenario.toml" --images out
done

# What the tests themselves counted, so that an empty suite cannot look green.
counted=$(awk '/^test result: ok\./ { n += $4 } END { print n + 0 }' "$logs/unit-and-mariadb.log")
echo "Rust tests that passed: $counted"
[ "$counted" -gt 0 ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
