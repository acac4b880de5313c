#!/bin/sh
# Entry point like that of the official image of PostgreSQL: the first start makes the data directory with a
# server that only its socket reaches, the others go straight to the server.
set -eu
# shellcheck source=tests/src/databases/secrets.sh
. /secrets.sh
as_postgres="setpriv --reuid postgres --regid postgres --init-groups"
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres:postgres "$PGDATA" /var/run/postgresql
chmod 0700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  for name in PASSWORD USER DB; do file_env "POSTGRES_$name"; done
  if [ -z "$POSTGRES_PASSWORD" ]; then
    echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set" >&2
    exit 1
  fi
  user=${POSTGRES_USER:-postgres}
  printf '%s\n' "$POSTGRES_PASSWORD" > /run/pgpass
  chown postgres /run/pgpass
  $as_postgres initdb --username="$user" --pwfile=/run/pgpass --encoding=UTF8 --locale=C.UTF-8 \
    --no-sync >/dev/null
  rm /run/pgpass
  {
    echo "listen_addresses = '*'"
    echo "max_connections = 20"
    echo "shared_buffers = 16MB"
    echo "max_wal_size = 64MB"
  } >> "$PGDATA/postgresql.conf"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  $as_postgres pg_ctl --silent --wait --options="-c listen_addresses=''" start >/dev/null
  if [ "${POSTGRES_DB:-$user}" != postgres ]; then
    $as_postgres createdb --username="$user" --maintenance-db=postgres "${POSTGRES_DB:-$user}"
  fi
  $as_postgres pg_ctl --silent --wait stop
fi
exec $as_postgres postgres "$@"
