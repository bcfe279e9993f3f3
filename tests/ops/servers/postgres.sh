#!/bin/bash
# As the official image does: sets the database up the first time, then serves.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    "$bin/initdb" --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 --auth-local=trust >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    "$bin/pg_ctl" -w -o "-c listen_addresses=''" start >/dev/null
    "$bin/createdb" -U "$POSTGRES_USER" "$POSTGRES_DB"
    "$bin/pg_ctl" -w stop >/dev/null
fi
exec "$bin/postgres" -c listen_addresses='*'
