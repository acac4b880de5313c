#!/bin/sh
# Entry point like that of the official image of MariaDB: the first start makes the data directory with a
# server that only its socket reaches, the others go straight to the server.
set -eu
# shellcheck source=tests/src/databases/secrets.sh
. /secrets.sh
data=/var/lib/mysql
socket=/run/mysqld/mysqld.sock
id -u mysql >/dev/null 2>&1 || useradd --system --user-group --home-dir /nonexistent mysql
mkdir -p /run/mysqld
chown mysql:mysql /run/mysqld "$data"
if [ ! -d "$data/mysql" ]; then
  for name in ROOT_PASSWORD DATABASE USER PASSWORD; do
    file_env "MARIADB_$name"
    file_env "MYSQL_$name"
    eval "MARIADB_$name=\${MARIADB_$name:-\$MYSQL_$name}"
  done
  if [ -z "$MARIADB_ROOT_PASSWORD" ]; then
    echo "MARIADB_ROOT_PASSWORD or MARIADB_ROOT_PASSWORD_FILE must be set" >&2
    exit 1
  fi
  mariadb-install-db --user=mysql --datadir="$data" --skip-test-db \
    --auth-root-authentication-method=normal >/dev/null
  mariadbd --user=mysql --skip-networking &
  server=$!
  until mariadb-admin --socket="$socket" --silent ping; do
    kill -0 "$server"
    sleep 0.2
  done
  {
    echo "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
    echo "FLUSH PRIVILEGES;"
    echo "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
    echo "CREATE USER root@'%' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
    echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
    if [ -n "$MARIADB_DATABASE" ]; then echo "CREATE DATABASE \`$MARIADB_DATABASE\`;"; fi
    if [ -n "$MARIADB_USER" ]; then
      echo "CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$MARIADB_PASSWORD';"
      echo "GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';"
    fi
  } | mariadb --socket="$socket" --user=root
  kill -TERM "$server"
  wait "$server"
fi
exec mariadbd --user=mysql "$@"
