#!/usr/bin/env bash
# Builds Asterisk 22 in a folder of its own, outside the clone: nothing else on the machine changes,
# and nothing of it runs here. Prints nothing when it is already there.
#
# Debian 12 has no Asterisk; Debian unstable has 22 (LTS). Needs root, debootstrap and a Debian mirror.
set -euo pipefail

readonly major=22
readonly root="${SVI_ASTERISK:-${XDG_CACHE_HOME:-$HOME/.cache}/svi/asterisk-$major}"
readonly partial="$root.partial"

fail() {
    echo "asterisk: $*" >&2
    exit 1
}

# debootstrap mounts /proc and /sys while it works: they must be gone before anything is deleted.
discard() {
    umount -q "$partial/proc" "$partial/sys" 2>/dev/null || true
    rm -rf --one-file-system "$partial"
}

inside() {
    DEBIAN_FRONTEND=noninteractive chroot "$partial" "$@"
}

step() {
    echo "asterisk: $1"
    shift
    "$@" >>"$log" 2>&1 || fail "failed; the last lines: $(tail -n 3 "$log" | tr '\n' ' ')"
}

forbid_services() {
    printf '#!/bin/sh\nexit 101\n' >"$partial/usr/sbin/policy-rc.d"
    chmod +x "$partial/usr/sbin/policy-rc.d"
}

is_there() {
    [ -x "$root/usr/sbin/asterisk" ]
}

is_there && exit 0
[ "$(id -u)" = 0 ] || fail "building it needs root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"

mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
is_there && exit 0 # another build had the lock and finished

log=$(mktemp)
trap 'discard; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

echo "asterisk: building in $root (about a minute, 350 MB)"
discard
step "1/3 a minimal Debian" debootstrap --variant=minbase sid "$partial"
forbid_services
# A mirror that is behind is good enough.
step "2/3 its list of packages" inside apt-get -o Acquire::Check-Valid-Until=false update
step "3/3 Asterisk" inside apt-get install -y --no-install-recommends asterisk

version=$(inside asterisk -V)
[[ $version == "Asterisk $major."* ]] || fail "version $major is needed, the mirror has: $version"

rm -rf "$partial"/var/cache/apt/* "$partial"/var/lib/apt/lists/*
mv "$partial" "$root"
echo "asterisk: $version is ready"
