#!/bin/sh
# Installs the Debian packages named on the command line that are not there yet.
set -eu
missing=""
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' \
        || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "packages: root is needed to install:$missing" >&2; exit 1; }
echo "installing Debian packages:$missing"
apt-get -qq update
# RUNLEVEL=1 keeps a package from starting a service of its own.
# shellcheck disable=SC2086
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
