#!/usr/bin/env bash
# Runs the unit tests that ship inside the published webrtc-ice, turn and webrtc crates twice, on
# the webrtc-util they were published with and on the fork in patches/, and prints both counts.
# Fails when a test fails with the fork that passes without it.
#
#   bash tests/upstream/compare.sh
#   bash tests/upstream/compare.sh --build    # builds them, and no more
#
# Needs the crate registry to build. The tests run in a network namespace of their own: no packet
# leaves it, and those that ask a public STUN server fail on both sides.
set -euo pipefail
shopt -s inherit_errexit

root=$(cd "$(dirname "$0")/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/upstream
crates=(webrtc-ice turn webrtc)
test_seconds=180 # for the tests of one crate; the slowest takes about 15

# Own namespaces, with what the tests expect of a network: an address that is not 127.0.0.1, which
# ICE leaves out, and multicast for mDNS.
# Root is not enough inside every container, and an ordinary user not on every distribution.
isolate=()
for try in "unshare --user --map-root-user --net" "unshare --net"; do
    if $try true 2>/dev/null; then
        read -ra isolate <<<"$try"
        break
    fi
done
if [[ ${#isolate[@]} -eq 0 ]]; then
    echo "NOT RUN: cannot make a network namespace here, neither as this user nor as root" >&2
    [[ ${CI:-} == true ]] && exit 1
    exit 0
fi
lo_up='ip link set lo up multicast on && ip address add 192.0.2.1/24 dev lo && ip route add 224.0.0.0/4 dev lo'

# Lays out a workspace of the three crates' sources, as cargo has unpacked them.
lay_out() { # variant
    local dir=$work/$1 crate manifest
    mkdir -p "$dir/src"
    : >"$dir/src/lib.rs"
    # The versions that this project is built with.
    cp "$root/Cargo.lock" "$dir/Cargo.lock"
    {
        echo '[package]'
        echo 'name = "upstream-tests"'
        echo 'edition = "2024"'
        echo '[dependencies]'
        echo 'webrtc-util = { version = "=0.17.2", default-features = false }'
        echo '[workspace]'
        echo 'members = ["webrtc-ice", "turn", "webrtc"]'
        echo '[profile.dev]'
        echo 'debug = false'
        echo '[patch.crates-io]'
        for crate in "${crates[@]}"; do
            echo "$crate = { path = \"$crate\" }"
        done
        if [[ $1 == fork ]]; then
            echo "webrtc-util = { path = \"$root/patches/webrtc-util\" }"
        fi
    } >"$dir/Cargo.toml"
    for crate in "${crates[@]}"; do
        manifest=$(grep -oE "\"manifest_path\":\"[^\"]*/$crate-0\.17\.[0-9]+/Cargo.toml\"" "$work/metadata.json" |
            cut -d'"' -f4 | sort -u)
        if [[ $(wc -l <<<"$manifest") -ne 1 || ! -f $manifest ]]; then
            echo "expected one published $crate 0.17 in Cargo.lock, found: $manifest" >&2
            return 1
        fi
        # Timestamps kept: cargo rebuilds only what differs from the last run.
        rm -rf "${dir:?}/$crate"
        cp -R --preserve=timestamps "$(dirname "$manifest")" "$dir/$crate"
    done
}

build() { # variant
    local dir=$work/$1
    (cd "$dir" && CARGO_TARGET_DIR=$work/build timeout 1800 cargo test --quiet --workspace --exclude upstream-tests \
        --lib --no-run --message-format json-render-diagnostics) |
        grep -oE '"executable":"[^"]+"' | cut -d'"' -f4 >"$dir/executables"
    # Which webrtc-util 0.17 it was: one from the registry has a `source`.
    if grep -A2 '^name = "webrtc-util"' "$dir/Cargo.lock" | grep -A1 '^version = "0.17' | grep -q '^source'; then
        [[ $1 == stock ]]
    else
        [[ $1 == fork ]]
    fi || { echo "the $1 build did not use the $1 webrtc-util" >&2; return 1; }
}

# Runs a crate's tests (or those named after it) in a new namespace, from the crate's folder.
run_tests() { # variant crate [argument...]
    local dir=$work/$1 crate=$2 executable
    executable=$(grep -E "/${crate//-/_}-[0-9a-f]+\$" "$dir/executables")
    shift 2
    (cd "$dir/$crate" && timeout --foreground "$test_seconds" "${isolate[@]}" \
        sh -c "$lo_up && exec \"\$@\"" sh "$executable" "$@" 2>&1) || true
}

names() { # result file: names of the tests with that result
    sed -nE "s/^test (.*) \.\.\. $1\$/\1/p" "$2" | sort
}

mkdir -p "$work"
(cd "$root" && cargo metadata --locked --format-version 1 >"$work/metadata.json")
for variant in stock fork; do
    lay_out "$variant"
    echo "building the tests on $variant webrtc-util" >&2
    build "$variant"
done
[[ ${1:-} != --build ]] || exit 0

status=0
printf '%-12s %7s %7s %7s %7s\n' '' stock '' fork ''
printf '%-12s %7s %7s %7s %7s\n' crate passed failed passed failed
for crate in "${crates[@]}"; do
    for variant in stock fork; do
        log=$work/$variant/$crate.log
        run_tests "$variant" "$crate" >"$log"
        names ok "$log" >"$log.ok"
        names FAILED "$log" >"$log.failed"
        total=$(sed -nE 's/^running ([0-9]+) tests?$/\1/p' "$log")
        seen=$(($(wc -l <"$log.ok") + $(wc -l <"$log.failed") + $(names 'ignored.*' "$log" | wc -l)))
        if [[ -z $total || $seen -ne $total || $total -eq 0 ]]; then
            echo "$crate on $variant: $seen of ${total:-?} tests ended within $test_seconds s, see $log" >&2
            sed -n 's/ has been running.*/: did not end/p' "$log" >&2
            status=1
        fi
    done
    stock=$work/stock/$crate.log fork=$work/fork/$crate.log
    printf '%-12s %7d %7d %7d %7d\n' "$crate" \
        "$(wc -l <"$stock.ok")" "$(wc -l <"$stock.failed")" "$(wc -l <"$fork.ok")" "$(wc -l <"$fork.failed")"
    mapfile -t lost < <(comm -12 "$stock.ok" "$fork.failed")
    for name in "${lost[@]}"; do
        # Some of these tests depend on timing: a few get a second chance, alone.
        if [[ ${#lost[@]} -le 3 ]] && run_tests fork "$crate" --exact "$name" | grep -q "^test .* ok\$"; then
            echo "  $name: failed with the fork, passed when run again" >&2
        else
            echo "  $name: passes with stock, fails with the fork" >&2
            status=1
        fi
    done
done
exit "$status"
