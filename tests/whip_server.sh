#!/usr/bin/env bash
# The example whip_server as a program, with aiortc as its client: on one UDP port and on many, what it
# says and what it is told on its standard streams, what its HTTP refuses, and how it ends.
#
#   bash tests/whip_server.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Nothing stays behind, also where something failed.
trap 'jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true' EXIT

if [[ ! -x tests/clients/venv/bin/python ]]; then
    echo "NOT RUN: aiortc is not there; sh tests/clients/install.sh installs it" >&2
    [[ ${CI:-} != true ]] || exit 1
    exit 0
fi
cargo build --locked --quiet --package perpacket-examples --example whip_server
program=${CARGO_TARGET_DIR:-target}/debug/examples/whip_server

# Reads lines of a coprocess until one begins so; prints the rest of it.
line() { # descriptor beginning
    local text
    while read -r -t 60 -u "$1" text; do
        if [[ $text == "$2"* ]]; then
            printf '%s' "${text#"$2"}"
            return
        fi
        [[ $text != *'"error"'* ]] || fail "$text"
    done
    fail "no line '$2…'"
}

status() { # curl's arguments
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 30 "$@"
}

try() { # options of the server
    echo "-- whip_server $*"
    coproc SERVER { exec "$program" --port 0 --set dtls:ttl=60 "$@"; }
    local server=$SERVER_PID from=${SERVER[0]} to=${SERVER[1]} url
    url=$(line "$from" "listening on ")

    [[ $(status "$url") == 200 ]] || fail "no page"
    [[ $(status --data x -H 'Content-Type: text/plain' "${url}whip") == 415 ]] || fail "not 415"
    [[ $(status --data x -H 'Content-Type: application/sdp' "${url}whip") == 400 ]] || fail "not 400"
    [[ $(status --request DELETE "${url}whip/nobody") == 404 ]] || fail "not 404"

    # The shell warns of a second coprocess.
    { coproc CLIENT { exec tests/clients/venv/bin/python tests/clients/python/aiortc_client.py; }; } 2>/dev/null
    local client=$CLIENT_PID answers=${CLIENT[0]} commands=${CLIENT[1]}
    echo "connect ${url}whip" >&"$commands"
    line "$answers" '{' >/dev/null
    line "$from" "sessions 1"
    echo "srtp:ttl=9,tos=184" >&"$to"
    line "$from" "set srtp:ttl=9,tos=184"
    echo "srtp:ttl=0" >&"$to"
    line "$from" "error: " >/dev/null
    echo "messages 100" >&"$commands"
    line "$answers" '{"messages": 100}'
    echo "close" >&"$commands"
    line "$answers" '{"closed"' >/dev/null
    line "$from" "sessions 0"
    eval "exec $commands>&-"
    wait "$client" || true

    kill -TERM "$server"
    wait "$server" || fail "the end was no success"
}

try --udp-port 0
try
echo "ok"
