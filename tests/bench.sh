#!/usr/bin/env bash
# Measures what docs/reference/performance.md tabulates, and prints it as
# Markdown. Timings are noisy: only figures of one run are to be compared.
# Takes about three quarters of an hour on two cores without KVM.
# Usage: bench.sh [builds|ratio|boot|agent|scale|cloud-init ...]   (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "error: builds need root" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/sf-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
profiles=(hypervisor network database-tier)
parts=${*:-builds ratio boot agent scale cloud-init}

cargo build --quiet --locked -p sf-image
target=${CARGO_TARGET_DIR:-target}
sf_image=$target/debug/sf-image agent=$target/agent/sf-firstboot

# Compiles the agent as builds do, so that no build below includes it.
"$sf_image" render --profile hypervisor --output-dir "$work/rendered" >"$work/render" 2>>"$work/log"

# One number out of JSON on standard input.
pick() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
build() { # cache, output folder, arguments... -> seconds of the whole command
  local cache=$1 out=$2; shift 2
  SF_CACHE_DIR=$cache "$sf_image" build --agent "$agent" --output-dir "$out" --json "$@" 2>>"$work/log" | pick 'd["seconds"]'
}

echo "Machine: $(nproc) processors, $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), load $(cut -d' ' -f1 /proc/loadavg) at the start, $(date -I)."

case " $parts " in *" builds "*)
  cache=$work/cache out=$work/out
  printf '\n| build | seconds |\n|---|---|\n'
  for profile in "${profiles[@]}"; do
    # The first one also brings mkosi, the tools tree and the Python environment.
    [ "$profile" = hypervisor ] && note=' (empty cache)' || note=' (tools there)'
    echo "| $profile, cold$note | $(build "$cache" "$out" --profile "$profile") |"
  done
  for profile in "${profiles[@]}"; do
    echo "| $profile, warm (\`--force\`) | $(build "$cache" "$out" --profile "$profile" --force) |"
  done
  echo "| hypervisor, nothing changed | $(build "$cache" "$out" --profile hypervisor) |"
esac

case " $parts " in *" ratio "*)
  cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
  # Both once before the clock runs, so that both find the same caches.
  build "$cache" "$work/ratio" --profile hypervisor --force >/dev/null
  "$sf_image" render --profile hypervisor --agent "$agent" --output-dir "$work/rendered" >"$work/render" 2>>"$work/log"
  plain=$(tail -n 1 "$work/render")
  printf '\n| run | sf-image build, s | of it mkosi, s | plain mkosi build, s |\n|---|---|---|---|\n'
  for run in 1 2 3; do
    SF_CACHE_DIR=$cache "$sf_image" build --agent "$agent" --output-dir "$work/ratio" --json --profile hypervisor --force 2>>"$work/log" >"$work/json"
    ours=$(pick 'd["seconds"]' <"$work/json")
    mkosi=$(pick 'next(t["seconds"] for t in d["timings"] if t["phase"].endswith(": image"))' <"$work/json")
    start=$(date +%s.%N)
    # --force has to come before the verb; behind it mkosi finds its output and stops.
    bash -c "${plain% build} --force build" >>"$work/log" 2>&1
    theirs=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    echo "| $run | $ours | $mkosi | $theirs |"
  done
esac

case " $parts " in *" boot "*)
  SF_CACHE_DIR=${SF_CACHE_DIR:-} "$sf_image" build --output-dir out --profile hypervisor --profile database-tier >/dev/null 2>>"$work/log"
  printf '\n| file | MiB (apparent) | MiB (on disk) |\n|---|---|---|\n'
  newest=$(ls -d out/hypervisor/*/ | sort -V | tail -n 1)
  for file in "$newest"*.raw "$newest"*.efi; do
    echo "| $(basename "$file") | $(($(stat -c %s "$file") / 1048576)) | $(du -m "$file" | cut -f1) |"
  done
  "$sf_image" boot-test --scenario tests/boot/first-boot.toml --images out --json 2>>"$work/log" >"$work/boot.json" || true
  printf '\n| machine, boot | measure | value |\n|---|---|---|\n'
  pick '"\n".join(f"| {m[chr(110)+chr(97)+chr(109)+chr(101)]}, {n} | {k} | {v} |" for m in d["machines"] for n, b in enumerate(m["boots"], 1) for k, v in b["timings"].items())' <"$work/boot.json"
esac

case " $parts " in *" agent "*)
  printf '\n| agent | value |\n|---|---|\n'
  echo "| binary, KiB | $(($(stat -c %s "$agent") / 1024)) |"
  # A whole rehearsal without a database to reach: what it takes to read, check
  # and say so. It ends with a refusal, and time(1) says that first.
  /usr/bin/time --quiet --format=%M --output="$work/rss" "$agent" check --metadata examples/metadata/database-tier.toml \
    --release-descriptor releases/0.7/release.toml --role database-tier >/dev/null 2>&1 || true
  echo "| peak RSS of a check, KiB | $(tail -n 1 "$work/rss") |"
esac

case " $parts " in *" scale "*)
  # One agent alone, then fleets at once, beside bare logins by MariaDB's own
  # client; SF_BENCH_NODES (10000) and SF_BENCH_SIMULATED make it shorter.
  SF_BENCH_AGENT=$(realpath "$agent") cargo test --quiet --locked -p sf-firstboot --test cluster_scale -- \
    --ignored --nocapture --test-threads=1 2>>"$work/log" | tee -a "$work/log" | grep -E '^(\||The agent|$)' ||
    { tail -n 40 "$work/log" >&2; exit 1; }
  echo "Load $(cut -d' ' -f1-3 /proc/loadavg) at the end of it."
esac

case " $parts " in *" cloud-init "*)
  # An image with cloud-init beside the agent, made from a copy of the checkout's inputs.
  mkdir "$work/checkout"
  git ls-files -z | xargs -0 cp --parents --no-dereference -t "$work/checkout"
  cp tests/bench/cloud-init/cloud-init.toml "$work/checkout/profiles/"
  "$sf_image" build --root "$work/checkout" --agent "$agent" --profile cloud-init --image-version bench --output-dir "$work/images" >/dev/null 2>>"$work/log"
  "$sf_image" boot-test --scenario tests/bench/cloud-init/scenario.toml --images "$work/images" --json 2>>"$work/log" >"$work/cloud-init.json"
  printf '\n| first boot in one emulated machine | value |\n|---|---|\n'
  pick 'next("\n".join("| " + line.rpartition(" ")[0] + " | " + line.rpartition(" ")[2] + " |" for line in str(p["answered"].get("output", "")).splitlines()) for p in d["probes"] if p["title"] == "figures")' <"$work/cloud-init.json"
esac
