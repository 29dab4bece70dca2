#!/usr/bin/env bash
# The example measure as a program, with `perpacket connect` as its client: it measures the path to the
# client, says what it finds, and ends by itself.
#
#   bash tests/measure.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Nothing stays behind, also where something failed.
trap 'jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true' EXIT

cargo build --locked --quiet --package perpacket-examples --example measure
cargo build --locked --quiet --package perpacket
built=${CARGO_TARGET_DIR:-target}/debug

coproc SERVER { exec timeout 120 "$built/examples/measure" --port 0 --clients 1; }
server=$SERVER_PID
# Still readable when the coprocess has ended.
exec {said}<&"${SERVER[0]}"
read -r -t 60 -u "$said" first || fail "the server says nothing"
[[ $first == "listening on "* ]] || fail "$first"
"$built/perpacket" connect --json "${first#listening on }whip" >/dev/null &

lines=$(timeout 120 cat <&"$said")
wait "$server" || fail "no success, after: $lines"
echo "$lines"
for found in ': connected' 'hop  1 .* the client' 'packets of [0-9]* bytes pass, with [0-9]* of RTP payload' 'mark EF '; do
    grep -q -- "$found" <<<"$lines" || fail "nothing like '$found'"
done
echo "ok"
