#!/bin/sh
# Installs what some tests need beyond Rust, on Debian or Ubuntu: nft, tc, ip, traceroute and its like,
# and coturn as the STUN and TURN server of the lab. The tests start a coturn of their own: the service that its
# package brings is neither started nor enabled.
set -eu
[ "$(id -u)" = 0 ] && as_root= || as_root=sudo
missing() { ! PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

packages=
missing nft && packages="$packages nftables"
{ missing tc || missing ip; } && packages="$packages iproute2"
missing unshare && packages="$packages util-linux"
missing turnserver && packages="$packages coturn"
{ missing traceroute || missing tracepath || missing mtr || missing irtt || missing ping; } && packages="$packages traceroute iputils-tracepath mtr-tiny irtt iputils-ping"

# So that an ordinary user's tests can simulate networks: the mode that udev gives it. A device on it needs
# CAP_NET_ADMIN all the same.
[ ! -c /dev/net/tun ] || [ "$(stat -c %a /dev/net/tun)" = 666 ] || $as_root chmod 666 /dev/net/tun

[ -n "$packages" ] || exit 0

# A policy that forbids it is Debian's way to keep a package from starting its service.
policy=/usr/sbin/policy-rc.d
if missing turnserver && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -qq -y $packages
if missing systemctl; then exit 0; fi
case $packages in *coturn*) $as_root systemctl disable --quiet coturn || true ;; esac
