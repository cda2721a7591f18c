#!/usr/bin/env bash
# Brings what the named sets need and the machine lacks, saying what and why
# first. Usage: prerequisites.sh compile|lint|fuzz|test|bench ...
set -euo pipefail

cache=${SF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sf-image}
packages=() reasons=() services=()

need() { # program, Debian package, reason, [service that the package starts]
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return
  packages+=("$2") reasons+=("  $2: $3")
  [ -z "${4:-}" ] || services+=("$4")
}
need_file() { # file, Debian package, reason
  [ -e "$1" ] && return
  packages+=("$2") reasons+=("  $2: $3")
}

fail() { echo "error: $*" >&2; exit 1; }

command -v cargo >/dev/null || fail "cargo is not on the PATH; install Rust 1.92 or newer (rustup.rs or your distribution)"

want_deny=
for set in "$@"; do
  case $set in
    compile) need cc gcc "links Rust programs and compiles the TLS library"
             need_file /usr/include/stdio.h libc6-dev "headers for the same" ;;
    lint) want_deny=yes ;;
    fuzz) need c++ g++ "compiles libFuzzer" ;;
    test) want_deny=yes
      need qemu-system-x86_64 qemu-system-x86 "boots the images"
      need_file /usr/share/OVMF/OVMF_CODE_4M.fd ovmf "UEFI firmware for the virtual machines"
      need qemu-img qemu-utils "throw-away overlays over the images"
      need mariadbd mariadb-server "the real database of the tests" mariadb
      need_file /usr/lib/galera/libgalera_smm.so galera-4 "the three-node cluster of the tests"
      need rsync rsync "brings a Galera node up to date"
      need ip iproute2 "gives each Galera node a network of its own"
      need_file /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 libfaketime "sets clocks back by years"
      need etcd etcd-server "the store of Shaken Fist 0.7, which the booted nodes use" etcd
      need python3 python3 "reads the database as Shaken Fist's own code would, and runs mkosi"
      need mkfs.fat dosfstools "makes the FAT config drives of the tests"
      need mcopy mtools "puts files on them, and reads those of sf-image"
      need xorriso xorriso "makes the ISO 9660 config drives of the tests"
      need dump.erofs erofs-utils "finds and reads files in /usr partitions"
      need debugfs e2fsprogs "reads the nodes' disks after a test"
      need systemd-creds systemd "encrypts credentials"
      need sfdisk fdisk "reads partition tables" ;;
    bench) need_file /usr/bin/time time "says what one process alone has used" ;;
    *) fail "prerequisites.sh: unknown set $set" ;;
  esac
done

if [ ${#packages[@]} -gt 0 ]; then
  echo "Installing Debian packages that are missing here:" >&2
  printf '%s\n' "${reasons[@]}" >&2
  command -v apt-get >/dev/null || fail "no apt-get here; install by hand: ${packages[*]}"
  [ "$(id -u)" = 0 ] || fail "installing packages needs root; run: sudo apt-get install ${packages[*]}"
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "apt-get could not install: ${packages[*]} (log: $log)"
  fi
  rm -f "$log"
  # Debian starts a service with its package; the tests start their own, on
  # the same port in etcd's case, and this machine did not ask for one.
  if [ -d /run/systemd/system ] && [ ${#services[@]} -gt 0 ]; then
    echo "Stopping the services that came with them: ${services[*]}" >&2
    systemctl disable --now "${services[@]}" >&2
  fi
fi

# MariaDB as the images' Debian has it, beside the host's own.
case " $* " in *" test "*) "$(dirname "$0")/mariadb-11.8.sh" ;; esac

if [ -n "$want_deny" ] && ! command -v cargo-deny >/dev/null; then
  if [ ! -x "$cache/cargo-deny/bin/cargo-deny" ]; then
    echo "Building cargo-deny (checks licences and sources of dependencies) into $cache, once" >&2
    cargo install cargo-deny --version '^0.20' --locked --quiet --root "$cache/cargo-deny" \
      || fail "cargo-deny could not be built"
  fi
fi
