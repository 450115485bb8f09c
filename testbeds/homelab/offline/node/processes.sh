# The node's parts as processes: each with a log of its own, and the node ends when one of them does, as k3s would.

declare -A parts=()

say() {
    echo "time=\"$(date --utc +%FT%TZ)\" level=info msg=\"$*\""
}

run() { # name, command
    local name=$1
    shift
    "$@" >>"$LOGS/$name.log" 2>&1 &
    parts[$name]=$!
}

wait_for() { # command
    local _
    for _ in {1..400}; do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.3
    done
    say "not within 120 s: $*"
    exit 1
}

stop_all() {
    kill -TERM "${parts[@]}" $(jobs -p) 2>/dev/null
    wait
    exit "$1"
}
trap 'stop_all 0' TERM INT

# Until a part ends: apply what is new in the folder of manifests (k3d writes the network's names into CoreDNS's there),
# and keep the routes to other nodes, which come and go more rarely.
watch_over() {
    local name turn=0
    while true; do
        for name in "${!parts[@]}"; do
            if ! kill -0 "${parts[$name]}" 2>/dev/null; then
                say "$name ended; its log: $(tail -n 3 "$LOGS/$name.log")"
                stop_all 1
            fi
        done
        if [ "$role" = server ]; then apply_manifests; fi
        if ((turn++ % 5 == 0)); then set_routes; fi
        sleep 2 &
        wait $!
    done
}
