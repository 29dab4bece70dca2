#!/bin/sh
# Installs Schemathesis, which a test of the REST API wants, on Debian. Does nothing where it is there.
set -eu
cd "$(dirname "$0")"

if ! /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && as_root= || as_root=sudo
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 python3-venv
fi

# The folder holds a copy of the list that it was made from.
if ! cmp -s requirements.txt venv/requirements.txt; then
    rm -rf venv
    # Debian's own Python, which every user of the machine can run.
    /usr/bin/python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
    cp requirements.txt venv
fi
