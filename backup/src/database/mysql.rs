//! MySQL, MariaDB, Percona Server.

use super::{Script, Step, Trailer};
use crate::snapshot::DumpRole;

/// Name of the one file.
pub const FILE: &str = "all.sql";

/// Sets `user` and the password for `mysql(1)` as the images do: that of root, or else of the user they make.
/// With none of them the client tries as root, as the Debian packages allow it by the socket. `MYSQL_PWD` is in
/// the environment of the client only.
macro_rules! login {
    () => {
        r#"
login() {
  user=root value=
  for name in MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD; do [ -n "$value" ] || from "$name"; done
  if [ -z "$value${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD-}${MYSQL_ALLOW_EMPTY_PASSWORD-}" ]; then
    for brand in MARIADB MYSQL; do
      eval "name=\${${brand}_USER-}"
      [ -n "$value" ] || [ -z "$name" ] || { from "${brand}_PASSWORD"; [ -z "$value" ] || user=$name; }
    done
  fi
  [ -z "$value" ] || export MYSQL_PWD="$value"
}
"#
    };
}

/// The way back.
pub mod back;

const PROBE: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb mysql
  set -- --batch --skip-column-names --raw
  [ -z "${dump_host-}" ] || set -- "$@" --protocol=tcp --host="$dump_host" --port="$dump_port"
  own="'information_schema', 'performance_schema', 'mysql', 'sys'"
  "$program" --user="$user" "$@" --execute="
    SELECT CONCAT('server=', VERSION());
    SELECT CONCAT('database=', schema_name) FROM information_schema.schemata
      WHERE schema_name NOT IN ($own) AND schema_name NOT LIKE CONCAT('%', CHAR(10), '%') ORDER BY schema_name;
    SELECT CONCAT('warning=the database ', REPLACE(schema_name, CHAR(10), ' '), ' has a line end in its name: it is in ',
        'the dump, but a restore does not remove an old one before')
      FROM information_schema.schemata WHERE schema_name LIKE CONCAT('%', CHAR(10), '%') ORDER BY 1;
    SELECT REPLACE(CONCAT('warning=the table ', table_schema, '.', table_name, ' has the engine ', engine,
        ', which knows no transactions: it is saved as it is when its turn comes'), CHAR(10), ' ')
      FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ($own)
      AND engine IN ('MyISAM', 'Aria', 'MRG_MyISAM', 'CSV', 'ARCHIVE', 'MEMORY') ORDER BY 1;
    SELECT REPLACE(CONCAT('warning=the table ', table_schema, '.', table_name, ' is versioned by the system: only its ',
        'present rows are in the dump'), CHAR(10), ' ')
      FROM information_schema.tables WHERE table_type = 'SYSTEM VERSIONED' AND table_schema NOT IN ($own)
      ORDER BY 1" || exit
  "$program" --user="$user" "$@" --execute='SELECT 1 FROM mysql.user LIMIT 1' >/dev/null 2>&1 && exit
  exec "$program" --user="$user" "$@" --execute="
    SELECT REPLACE(CONCAT('warning=the account ', CURRENT_USER(), ' is no administrator: accounts, grants and what it ',
        'may not see are not in the dump, which has the databases: ',
        COALESCE(GROUP_CONCAT(schema_name ORDER BY schema_name SEPARATOR ', '), 'none')), CHAR(10), ' ')
      FROM information_schema.schemata WHERE schema_name NOT IN ($own)"
}
"#
);

/// `--comments` against an option file that would take the last line away, `--skip-force` against one that
/// would go on after errors. What MySQL says of its transactions (GTID) would keep the dump from going back into the
/// same server (error 3546).
const DUMP: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick mariadb-dump mysqldump
  set -- --single-transaction --quick --routines --events --triggers --hex-blob --order-by-primary
  [ -z "${dump_host-}" ] || set -- "$@" --protocol=tcp --host="$dump_host" --port="$dump_port"
  [ "$program" = mariadb-dump ] || set -- "$@" --loose-set-gtid-purged=OFF
  exec "$program" --user="$user" "$@" --comments --skip-force --all-databases
}
"#
);

pub(super) fn probe() -> Script {
    Script::new(PROBE)
}

pub(super) fn plan() -> Vec<Step> {
    vec![Step {
        file: FILE.to_owned(),
        role: DumpRole::All,
        database: None,
        script: Script::new(DUMP),
        trailer: trailer(),
    }]
}

/// `mysqldump(1)`, `--comments`.
pub(super) fn trailer() -> Trailer {
    Trailer::Line("-- Dump completed")
}
