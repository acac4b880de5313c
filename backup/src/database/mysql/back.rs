//! A dump back into MySQL or MariaDB.

/// Tells tables, routines and events that are there already (`occupied=`), ten at most.
pub const OCCUPIED: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  own="'information_schema', 'performance_schema', 'mysql', 'sys'"
  exec "$program" --user="$user" --skip-force --batch --skip-column-names --raw --execute="
    SELECT CONCAT('occupied=', table_schema, '.', table_name) FROM information_schema.tables
      WHERE table_schema NOT IN ($own)
    UNION SELECT CONCAT('occupied=', routine_schema, '.', routine_name) FROM information_schema.routines
      WHERE routine_schema NOT IN ($own)
    UNION SELECT CONCAT('occupied=', event_schema, '.', event_name) FROM information_schema.events
      WHERE event_schema NOT IN ($own)
    ORDER BY 1 LIMIT 10"
}
"#
);

/// Removes the databases that are named.
pub const CLEAR: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  for name in "$@"; do
    printf 'DROP DATABASE IF EXISTS `%s`;\n' "$(printf '%s' "$name" | sed 's/`/``/g')"
  done | "$program" --user="$user" --skip-force --batch
}
"#
);

/// Feeds the client. In binary mode a dump cannot make it run commands of its own; `--skip-force` is against an option
/// file that would go on after errors.
pub const RESTORE: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  exec "$program" --user="$user" --skip-force --batch --skip-column-names --raw --binary-mode
}
"#
);

/// Lets the accounts of the dump take effect, where the dump has them: one of an account that is no administrator has
/// not. The administrator keeps the password that the container was given: the next restore or dump finds no other.
pub const ACCOUNTS: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  "$program" --user="$user" --skip-force --batch --execute='SELECT 1 FROM mysql.user LIMIT 1' >/dev/null 2>&1 || exit 0
  quote() { printf '%s' "$1" | sed "s/[\\\\']/\\\\&/g"; }
  {
    echo "SET SESSION sql_mode = '';"
    echo "FLUSH PRIVILEGES;"
    [ -z "$value" ] || for host in localhost %; do
      printf "ALTER USER IF EXISTS '%s'@'%s' IDENTIFIED BY '%s';\n" "$(quote "$user")" "$host" "$(quote "$value")"
    done
  } | "$program" --user="$user" --skip-force --batch
}
"#
);

/// Whether it takes connections. With `tcp`, not only those of its socket: images start a server behind the
/// socket alone while they make the data directory.
pub const READY: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb-admin mysqladmin
  [ "$1" != tcp ] || set -- --protocol=tcp --host=127.0.0.1
  [ "$1" != socket ] || shift
  exec "$program" --user="$user" "$@" --silent ping
}
"#
);

/// Tells the data directory (`directory=`), counts the rows of every table (`rows=NAME=COUNT`), then has the server
/// check each: columns table, operation, kind of message, message.
pub const CHECK: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  set -- --user="$user" --skip-force --batch --skip-column-names --raw
  "$program" "$@" --execute="SELECT CONCAT('directory=', @@datadir)" || exit 1
  counts=$("$program" "$@" <<'END'
SELECT CONCAT('SELECT CONCAT(''rows='', ', QUOTE(CONCAT(table_schema, '.', table_name)), ', ''='', COUNT(*)) FROM `',
    REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`;')
  FROM information_schema.tables WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
  AND table_schema NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys') ORDER BY 1;
END
  ) || exit 1
  printf '%s\n' "$counts" | "$program" "$@" || exit 1
  checks=$("$program" "$@" <<'END'
SELECT CONCAT('CHECK TABLE `', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '` EXTENDED;')
  FROM information_schema.tables WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
  AND table_schema NOT IN ('information_schema', 'performance_schema', 'sys') ORDER BY 1;
END
  ) || exit 1
  printf '%s\n' "$checks" | "$program" "$@" || exit 1
  echo checked=check-table
}
"#
);
