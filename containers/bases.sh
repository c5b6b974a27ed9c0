#!/usr/bin/env bash
# Makes the two base images of the Dockerfiles with debootstrap, under the names that they use, for a
# machine that reaches no image registry. Images that are there are kept. Needs root, podman,
# debootstrap and a Debian mirror.
set -euo pipefail

fail() {
    echo "bases: $*" >&2
    exit 1
}

# debootstrap mounts /proc and /sys while it works: they must be gone before anything is deleted.
discard() {
    umount -q "$root/proc" "$root/sys" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}

step() {
    echo "bases: $1"
    shift
    "$@" >>"$log" 2>&1 || fail "failed; the last lines: $(tail -n 3 "$log" | tr '\n' ' ')"
}

# A build reaches registries as this machine does.
trust_the_same() {
    cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
    chroot "$root" update-ca-certificates
}

# A mirror that is behind is good enough.
accept_an_ageing_mirror() {
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90ageing-mirror"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
}

import() {
    tar -C "$root" -c . | podman import - "$1"
}

make_base() { # suite, image
    podman image exists "$2" && return
    discard
    step "$2: 1/2 a minimal Debian" debootstrap --variant=minbase --include=ca-certificates "$1" "$root"
    trust_the_same >>"$log" 2>&1
    accept_an_ageing_mirror
    step "$2: 2/2 its image" import "$2"
}

root=$(mktemp -d)
chmod 755 "$root"
log=$(mktemp)
trap 'discard; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

make_base bookworm docker.io/library/debian:bookworm-slim
make_base sid docker.io/library/debian:unstable-slim
