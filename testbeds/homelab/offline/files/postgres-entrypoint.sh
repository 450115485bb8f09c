#!/bin/sh
# What the official image does for these settings: an empty PGDATA becomes a database with its owner and password.
set -eu
case "${1:-}" in -*) set -- postgres "$@" ;; esac
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  user="${POSTGRES_USER:-postgres}"
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  initdb --pgdata="$PGDATA" --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl --pgdata="$PGDATA" --wait --options="-c listen_addresses=''" start
  if [ "${POSTGRES_DB:-$user}" != postgres ]; then
    createdb --username="$user" --maintenance-db=postgres "${POSTGRES_DB:-$user}"
  fi
  pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop
fi
if [ "$1" = postgres ]; then
  shift
  set -- postgres -c listen_addresses='*' "$@"
fi
exec "$@"
