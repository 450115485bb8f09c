#!/bin/sh
# As the official image's: options alone are for redis-server.
set -e
case "${1:-}" in
    -*) set -- redis-server "$@" ;;
esac
exec "$@"
