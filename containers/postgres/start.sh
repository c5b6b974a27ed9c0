#!/bin/sh
# Makes the database at the first start, then becomes PostgreSQL.
set -eu
volume=/var/lib/postgresql/data
data=$volume/cluster
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH

create() {
    rm -rf "$volume/new" # what a start that was cut off left
    initdb --username=postgres --auth=reject --locale=C.UTF-8 --pgdata="$volume/new" >/dev/null
    password=$(cut -d: -f5 /run/secrets/database)
    postgres --single -D "$volume/new" postgres >/dev/null <<SQL
CREATE ROLE svi LOGIN PASSWORD '$password';
CREATE DATABASE svi OWNER svi;
SQL
    mv "$volume/new" "$data"
}

[ -d "$data" ] || create
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp \
    -c hba_file=/opt/svi/pg_hba.conf -c max_connections=200
