#!/bin/bash
# The inspection channel of a boot test. It is no part of any image: the boot
# test passes it to its machine as a credential, for one boot.
#
# Reads lines "ID SECONDS SCRIPT" from the port, runs each script (base64) for
# at most that many seconds, and answers "ID EXIT OUTPUT" (base64, both streams).
umask 077
port=/dev/virtio-ports/sf.inspect
folder=/run/sf-boot-test
mkdir -p "$folder"
until [ -e "$port" ]; do sleep 0.2; done

# Every process's arguments and environment, each once. Builtins only, and old
# processes rarely: under emulation all of it is felt.
sample() {
    local -A seen last age
    local -a argv environ
    local process pid name cgroup unit key pass=0
    while :; do
        pass=$((pass + 1))
        for process in /proc/[0-9]*; do
            [ "${last[$process]-}" = $((pass - 1)) ] || age[$process]=0
            last[$process]=$pass
            age[$process]=$((age[$process] + 1))
            # A young process may still exec, an old one rename itself.
            [ "${age[$process]}" -le 6 ] || [ $((age[$process] % 20)) -eq 0 ] || continue
            {
                mapfile -d '' -t argv <"$process/cmdline" &&
                    mapfile -d '' -t environ <"$process/environ" &&
                    read -r name <"$process/comm" &&
                    read -r cgroup <"$process/cgroup"
            } 2>/dev/null || continue
            # The kernel's own have none.
            [ ${#argv[@]} -gt 0 ] || continue
            pid=${process#/proc/}
            # "0::/system.slice/x.service/child" is of x.service.
            unit=${cgroup#*.slice/}
            while [[ $unit == *.slice/* ]]; do unit=${unit#*.slice/}; done
            unit=${unit%%/*}
            key="$pid|$name|${argv[*]}"
            [ -z "${seen[$key]-}" ] || continue
            seen[$key]=1
            name="${unit:--}/${name// /_}"
            printf 'cmdline %s %s %s\n' "$pid" "$name" "${argv[*]//$'\n'/ }"
            printf 'environ %s %s %s\n' "$pid" "$name" "${environ[*]//$'\n'/ }"
        done >>"$folder/processes"
        sleep 0.3
    done
}
if [ "${1-}" = sample ]; then sample & fi

exec 3<>"$port"
printf '0 0 \n' >&3
while :; do
    if ! IFS=' ' read -r id seconds script <&3; then
        sleep 0.2
        continue
    fi
    # In a file: an argument could be read by every process.
    base64 -d <<<"$script" >"$folder/script"
    timeout -k 2 "$seconds" bash "$folder/script" >"$folder/output" 2>&1 3>&- </dev/null
    code=$?
    {
        printf '%s %s ' "$id" "$code"
        base64 -w0 "$folder/output"
        printf '\n'
    } >&3
done
