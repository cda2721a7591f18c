#!/usr/bin/env bash
# Fuzzes each target for SECONDS (default 60): tests/fuzz.sh [SECONDS] [TARGET...]
# Prints a table of executions, as docs/reference/fuzzing.md has it. What is
# found is kept in fuzz/artifacts/; new inputs that reach new code in fuzz/reached/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(find fuzz/fuzz_targets -name '*.rs' -exec basename {} .rs \; | sort)

# Coverage counters for libFuzzer, with any toolchain. Memory errors are not
# looked for: no crate of ours has unsafe code. --target keeps the flags away
# from build scripts.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cforce-frame-pointers"
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/fuzz
cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$build"

mkdir -p fuzz/artifacts fuzz/reached
failed=0
echo "| target | executions | per second | edges | corpus | result |"
echo "|---|---|---|---|---|---|"
for target in "${targets[@]}"; do
  mkdir -p "fuzz/reached/$target" "fuzz/corpus/$target"
  log=fuzz/reached/$target.log
  result="nothing found"
  # Inputs are small documents; one that takes ten seconds is a hang.
  "$build/$host/release/$target" "fuzz/reached/$target" "fuzz/corpus/$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="fuzz/artifacts/$target-" -print_final_stats=1 >"$log" 2>&1 || {
      result="**failed**, see $log"
      failed=1
    }
  number() { sed -nE "s/^stat::$1: *([0-9]+)/\1/p" "$log" | tail -n 1; }
  edges=$(sed -nE 's/.* cov: ([0-9]+) .*/\1/p' "$log" | tail -n 1)
  echo "| $target | $(number number_of_executed_units) | $(number average_exec_per_sec) | $edges | $(find "fuzz/corpus/$target" -type f | wc -l) | $result |"
done
exit $failed
