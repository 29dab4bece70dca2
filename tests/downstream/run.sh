#!/usr/bin/env bash
# Builds and runs the two projects of this folder as their owners would: from a copy of what is
# checked in, outside the workspace, with lock files of their own.
#
#   bash tests/downstream/run.sh
#
# stock     the mux on webrtc-rs as published
# patched   with the feature custom-net and the patch; by path onto a lock file that was made
#           without the patch, and by git onto the one line that the README tells to write
# and that the feature without the patch stops the compiler, with a message that says what it is.
set -euo pipefail
shopt -s inherit_errexit

root=$(cd "$(dirname "$0")/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/downstream
checkout=$work/checkout # the same path in each run, so that a second one has little to build
projects=$checkout/tests/downstream
export CARGO_TARGET_DIR=$work/build CARGO_PROFILE_DEV_DEBUG=0

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

run() { # folder
    (cd "$1" && timeout 1800 cargo build --quiet && timeout 60 cargo run --quiet)
}

# Which webrtc-util 0.17 a lock file holds: `registry+…`, `git+…`, or nothing for a path.
locked() { # folder
    sed -n '/^name = "webrtc-util"$/,/^$/p' "$1/Cargo.lock" |
        awk '/^version = "0\.17\./ { here = 1 } here && /^source/ { print $3 } /^$/ { here = 0 }' |
        tr -d '"'
}

rm -rf "$checkout" "$work/from-git"
mkdir -p "$checkout" "$work/from-git"
(cd "$root" && git ls-files -z --cached --others --exclude-standard |
    tar --create --null --ignore-failed-read --files-from - 2>/dev/null) | tar --extract --directory "$checkout"

echo "== stock"
# Starting from this project's lock file keeps to versions that are known, and already built.
cp "$checkout/Cargo.lock" "$projects/stock/"
run "$projects/stock"
[[ $(locked "$projects/stock") == registry+* ]] || fail "the project is not on stock webrtc-util"

echo "== custom-net without the patch"
mkdir "$projects/unpatched"
cp -r "$projects/patched/src" "$checkout/Cargo.lock" "$projects/unpatched/"
sed '/^\[patch/,$d' "$projects/patched/Cargo.toml" >"$projects/unpatched/Cargo.toml"
(cd "$projects/unpatched" && cargo metadata --quiet --format-version 1 >/dev/null)
[[ $(locked "$projects/unpatched") == registry+* ]] || fail "the lock file is not one of stock webrtc-util"
if grep -rq NetProvider "$checkout/crates/webrtc/src"; then
    if (cd "$projects/unpatched" && timeout 1800 cargo check --quiet --package perpacket-webrtc) 2>"$work/unpatched.log"; then
        fail "custom-net compiles without the patch"
    fi
    grep -q 'unresolved import.*NetProvider' "$work/unpatched.log" || {
        cat "$work/unpatched.log" >&2
        fail "the error does not name what is missing"
    }
    grep -m1 -A8 'unresolved import.*NetProvider' "$work/unpatched.log"
else
    echo "NOT RUN: perpacket-webrtc does not use NetProvider" >&2
    [[ ${CI:-} != true ]] || exit 1
fi

echo "== patched, by path, onto that lock file"
cp "$projects/unpatched/Cargo.lock" "$projects/patched/"
run "$projects/patched"
[[ -z $(locked "$projects/patched") ]] || fail "cargo did not take the patch: $(locked "$projects/patched")"

echo "== patched, by git"
# Fixed dates and names: the same files give the same commit, and cargo has it already.
export GIT_{AUTHOR,COMMITTER}_DATE='2000-01-01T00:00:00Z'
git -C "$checkout" init --quiet
git -C "$checkout" add --all
git -C "$checkout" -c user.name=checkout -c user.email=checkout@localhost -c commit.gpgSign=false \
    commit --quiet --no-verify --message "What is checked in"
cp -r "$projects/patched/src" "$projects/patched/Cargo.lock" "$work/from-git/"
sed "s|path = \"[./]*/[^\"]*\"|git = \"file://$checkout\"|" "$projects/patched/Cargo.toml" >"$work/from-git/Cargo.toml"
# To cargo each revision is another crate, and all of webrtc-rs would be built anew: the fork alone.
(cd "$work/from-git" && timeout 1800 cargo check --quiet --package webrtc-util@0.17.2)
[[ $(locked "$work/from-git") == git+file* ]] || fail "cargo did not take the patch: $(locked "$work/from-git")"
# And with no lock file at all.
rm "$work/from-git/Cargo.lock"
(cd "$work/from-git" && cargo generate-lockfile --quiet)
[[ $(locked "$work/from-git") == git+file* ]] || fail "a fresh lock file does not take the patch"
echo "ok"
