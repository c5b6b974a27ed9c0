#!/bin/sh
# Makes the database and its roles at the first start, then becomes PostgreSQL.
set -eu
volume=/var/lib/postgresql/data
data=$volume/cluster
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH

password() { # file of /run/secrets, role; empty: nobody logs in by it
    awk -F: -v role="$2" '$4 == role || $4 == "*" { print $5; exit }' "/run/secrets/$1"
}

create() {
    rm -rf "$volume/new" # what a start that was cut off left
    initdb --username=postgres --auth=reject --locale=C.UTF-8 --pgdata="$volume/new" >/dev/null
    postgres --single -D "$volume/new" postgres >/dev/null <<SQL
CREATE ROLE svi LOGIN PASSWORD '$(password database svi)';
CREATE ROLE svi_owner LOGIN PASSWORD '$(password owner svi_owner)';
CREATE ROLE svi_purge LOGIN PASSWORD '$(password owner svi_purge)';
CREATE DATABASE svi OWNER svi_owner;
SQL
    mv "$volume/new" "$data"
}

[ -d "$data" ] || create
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp \
    -c hba_file=/opt/svi/pg_hba.conf -c max_connections=200
