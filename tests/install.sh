#!/bin/sh
# Installs what some tests need beyond Rust, on Debian or Ubuntu: nft, tc and ip.
set -eu
[ "$(id -u)" = 0 ] && as_root= || as_root=sudo
for program in nft tc ip unshare; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing=yes
done
[ -n "${missing:-}" ] || exit 0
$as_root apt-get update -qq
$as_root apt-get install -qq -y nftables iproute2 util-linux
