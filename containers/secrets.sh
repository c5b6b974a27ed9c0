#!/bin/sh
# Makes the secrets of a new installation, each in a file that the containers' user alone reads.
# Those that exist are kept. Needs root, and the image svi:
#
#   ENGINE=podman containers/secrets.sh
set -eu
umask 077
folder=${SVI_SECRETS:-./secrets}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
has() { [ -e "$folder/$1" ]; }

# libpq's own format: host:port:database:user:password
has database || printf '*:*:*:svi:%s\n' "$(random)" >"$folder/database"
has owner || printf '*:*:*:%s:%s\n' svi_owner "$(random)" svi_purge "$(random)" >"$folder/owner"
has ami || printf '{"host": "asterisk", "port": 5038, "user": "svi", "secret": "%s"}\n' "$(random)" \
    >"$folder/ami"
has keys || "${ENGINE:-docker}" run --rm --network none --user 0 -v "$folder:/secrets" \
    -e SVI_KEYS=/secrets/keys svi svi keys create
has twilio || {
    : >"$folder/twilio"
    echo "secrets: $folder/twilio is yours to fill: {\"account_sid\": \"AC…\", \"auth_token\": \"…\"}"
}
chown 10001:10001 "$folder"/*
