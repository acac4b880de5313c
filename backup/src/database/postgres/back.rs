//! A dump back into PostgreSQL.

/// `sql` runs what it reads; `name` and `old` are variables of it. The database `template1` is there on every
/// server and is never the one that is replaced.
macro_rules! sql {
    () => {
        r#"
sql() {
  psql --no-password --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
    --set=name="$name" --set=old="$old"
}
begin() {
  login
  pick psql
  name= old=
  export PGDATABASE=template1 PGOPTIONS='-c lc_messages=C'
}
"#
    };
}

/// Tells what is there already (`occupied=`) in the databases that are named, ten things a database at most: whatever
/// does not belong to the server itself.
pub const OCCUPIED: &str = concat!(
    login!(),
    sql!(),
    r#"
run() {
  begin
  for name in "$@"; do
    there=$(sql <<'END'
SELECT 1 FROM pg_catalog.pg_database WHERE datname = :'name';
END
    ) || exit 1
    [ -n "$there" ] || continue
    PGDATABASE=$name sql <<'END' || exit 1
WITH own AS (SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
  made AS (
    SELECT n.nspname || '.' || c.relname AS name FROM pg_catalog.pg_class c JOIN own n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
    UNION SELECT n.nspname || '.' || p.proname || '()' FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
    UNION SELECT n.nspname || '.' || t.typname FROM pg_catalog.pg_type t JOIN own n ON n.oid = t.typnamespace
      WHERE t.typtype IN ('d', 'e', 'r')
    UNION SELECT 'schema ' || nspname FROM own WHERE nspname <> 'public'
    UNION SELECT 'extension ' || extname FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
    UNION SELECT 'large object ' || oid FROM pg_catalog.pg_largeobject_metadata)
SELECT 'occupied=' || current_database() || '.' || pg_catalog.translate(name, E'\n\r', '  ') FROM made ORDER BY 1 LIMIT 10;
END
  done
}
"#
);

/// Roles and tablespaces. Those that are there already (SQLSTATE 42710) are no error; what the dump sets for
/// them is set, but the administrator keeps the password that the container was given; the server's log is not
/// to have it.
pub const GLOBALS: &str = concat!(
    login!(),
    sql!(),
    r#"
run() {
  begin
  exec 4>&1
  problems=$(psql --no-password --no-psqlrc --quiet --tuples-only --no-align --set=VERBOSITY=sqlstate 2>&1 >&4 |
    grep -e 'ERROR:' -e 'FATAL:' -e 'PANIC:' -e 'psql: error' | grep -v 'ERROR:  42710')
  [ -z "$problems" ] || { printf '%s\n' "$problems" | head -n 5 >&2; exit 1; }
  [ -n "${PGPASSWORD-}" ] || exit 0
  sql <<'END'
\set ON_ERROR_STOP 0
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\set ON_ERROR_STOP 1
\set word `printf '%s' "$PGPASSWORD"`
ALTER ROLE CURRENT_USER PASSWORD :'word';
END
}
"#
);

/// One database; `free` runs a statement after all sessions of it were ended, again and again, as applications come
/// back. An old one of the name is put aside, and comes back when the restore fails; so does it when
/// the input breaks off, since the format tells its own end. Arguments: its name, that of the one put aside.
pub const RESTORE: &str = concat!(
    login!(),
    sql!(),
    r#"
free() {
  tries=0
  until printf "%s\n" "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
      WHERE datname = :'name' AND pid <> pg_catalog.pg_backend_pid();" "$1" | sql >/dev/null
  do
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] || return 1
    sleep 1
  done
}
run() {
  begin
  pick pg_restore
  name=$1 old=$2
  there=$(sql <<'END'
SELECT 1 FROM pg_catalog.pg_database WHERE datname = :'name';
END
  ) || exit 1
  if [ -n "$there" ]; then
    free 'ALTER DATABASE :"name" RENAME TO :"old";' ||
      { echo "the database is in use: stop what uses it" >&2; exit 1; }
  fi
  if pg_restore --no-password --exit-on-error --create --dbname=template1; then
    [ -n "$there" ] || exit 0
    sql <<'END' && exit
DROP DATABASE :"old";
END
    echo "the new database is in place, but the old one, $old, could not be dropped" >&2
    exit 1
  fi
  free 'DROP DATABASE IF EXISTS :"name";' >&2 || { echo "the half-restored database is in use" >&2; exit 1; }
  [ -n "$there" ] || exit 1
  sql <<'END' >&2
ALTER DATABASE :"old" RENAME TO :"name";
END
  exit 1
}
"#
);

/// Whether it takes connections; see that of MySQL.
pub const READY: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick pg_isready
  [ "$1" != tcp ] || set -- --host=127.0.0.1
  [ "$1" != socket ] || shift
  exec pg_isready --quiet "$@"
}
"#
);

/// Tells the data directory (`directory=`), counts the rows of every table (`rows=NAME=COUNT`), then checks every table and index with `pg_amcheck`
/// where that is, and else reads everything as a dump does.
pub const CHECK: &str = concat!(
    login!(),
    sql!(),
    r#"
run() {
  begin
  sql <<'END' || exit 1
SELECT 'directory=' || pg_catalog.current_setting('data_directory');
END
  databases=$(sql <<'END'
SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname;
END
  ) || exit 1
  printf '%s\n' "$databases" | while IFS= read -r database; do
    PGDATABASE=$database sql <<'END' || exit 1
SELECT format('SELECT %L || count(*) FROM %I.%I',
    'rows=' || current_database() || '.' || n.nspname || '.' || c.relname || '=', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1 \gexec
END
  done || exit 1
  amcheck=$(sql <<'END'
SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck';
END
  ) || exit 1
  if [ -n "$amcheck" ] && command -v pg_amcheck >/dev/null 2>&1; then
    pg_amcheck --no-password --all --install-missing --heapallindexed >&2 || exit 1
    echo checked=pg_amcheck
  else
    pick pg_dumpall
    pg_dumpall --no-password >/dev/null || exit 1
    echo checked=pg_dumpall
  fi
}
"#
);
