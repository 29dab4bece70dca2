#!/bin/sh
# Installs the WebRTC clients that the test `clients` wants, on Debian: Chromium and Firefox with their drivers,
# aiortc, and three packages for Node. Does nothing where all of it is there.
set -eu
cd "$(dirname "$0")"
geckodriver=0.37.1

packages=
want() { # program, package...
    program=$1
    shift
    command -v "$program" >/dev/null || packages="$packages $*"
}
want chromium chromium
want chromedriver chromium-driver
want firefox-esr firefox-esr
want node nodejs npm
[ -x /usr/bin/python3 ] || packages="$packages python3"
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
if [ -n "$packages" ]; then
    [ "$(id -u)" = 0 ] && as_root= || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
fi

# Debian 12 has no geckodriver; Mozilla publishes its source on crates.io.
right() { # program
    "$1" --version 2>/dev/null | grep -qwF "geckodriver $geckodriver"
}
if ! right bin/geckodriver; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    right geckodriver || cargo install --quiet --locked --debug --force geckodriver --version "$geckodriver"
    # Where every user of the machine can run it.
    mkdir -p bin
    install -s -m 755 "$(command -v geckodriver)" bin
fi

# Each folder holds a copy of the list that it was made from.
if ! cmp -s requirements.txt venv/requirements.txt; then
    rm -rf venv
    # Debian's own Python, which every user of the machine can run.
    /usr/bin/python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
    cp requirements.txt venv
fi
if ! cmp -s package-lock.json node_modules/package-lock.json; then
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules
fi
