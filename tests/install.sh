#!/bin/sh
# Installs what some tests need beyond Rust, on Debian or Ubuntu: nft, tc, ip, traceroute and its like, coturn as the
# STUN and TURN server of the lab, and PostgreSQL. The tests start a coturn and a PostgreSQL of their own: the services
# that their packages bring are neither started nor enabled.
set -eu
[ "$(id -u)" = 0 ] && as_root= || as_root=sudo
missing() { ! PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

# Its programs for servers are not on the PATH.
missing_postgres() { ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }

packages=
services=
missing nft && packages="$packages nftables"
{ missing tc || missing ip; } && packages="$packages iproute2"
missing unshare && packages="$packages util-linux"
missing turnserver && packages="$packages coturn" services="$services coturn"
missing_postgres && packages="$packages postgresql" services="$services postgresql"
{ missing traceroute || missing tracepath || missing mtr || missing irtt || missing ping; } && packages="$packages traceroute iputils-tracepath mtr-tiny irtt iputils-ping"

# So that an ordinary user's tests can simulate networks: the mode that udev gives it. A device on it needs
# CAP_NET_ADMIN all the same.
[ ! -c /dev/net/tun ] || [ "$(stat -c %a /dev/net/tun)" = 666 ] || $as_root chmod 666 /dev/net/tun

[ -n "$packages" ] || exit 0

# A policy that forbids it is Debian's way to keep a package from starting its service.
policy=/usr/sbin/policy-rc.d
if [ -n "$services" ] && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -qq -y $packages
if missing systemctl; then exit 0; fi
for service in $services; do
    $as_root systemctl disable --quiet "$service" || true
done
