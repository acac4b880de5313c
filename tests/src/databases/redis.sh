#!/bin/sh
# Entry point like that of the official image of Redis: options alone are those of the server.
set -eu
case ${1:-} in
  -*) set -- redis-server "$@" ;;
esac
# Debian's package of the server is a link to a program of its tools, and a start script.
[ -e /usr/bin/redis-server ] || ln -s redis-check-rdb /usr/bin/redis-server
chown -R redis:redis /data
exec setpriv --reuid redis --regid redis --init-groups "$@"
