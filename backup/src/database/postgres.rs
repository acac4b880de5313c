//! PostgreSQL and what speaks like it.

use super::{Facts, Script, Step, Trailer, file_name};
use crate::snapshot::DumpRole;

/// Name of the file with roles and tablespaces.
pub const GLOBALS: &str = "globals.sql";

/// The comments that the texts of `pg_dump` and `pg_dumpall` end with; from their releases of August 2025 on a
/// line `\unrestrict` may follow. That of a cluster has the first one behind every database.
pub const TEXT_END: &str = "-- PostgreSQL database dump complete";
/// See [`TEXT_END`].
pub const CLUSTER_END: &str = "-- PostgreSQL database cluster dump complete";
/// The comment that a text of `pg_dumpall` begins with.
pub const CLUSTER_START: &str = "-- PostgreSQL database cluster dump";

/// Ending of the files of databases.
pub const DATABASE_ENDING: &str = ".pgdump";

/// Sets what libpq reads from the environment, as the images know it.
macro_rules! login {
    () => {
        r#"
login() {
  from POSTGRES_PASSWORD
  [ -n "$value" ] || from POSTGRESQL_PASSWORD
  [ -z "$value" ] || export PGPASSWORD="$value"
  from POSTGRES_USER
  export PGUSER="${value:-${POSTGRESQL_USERNAME:-${PGUSER:-postgres}}}"
  [ -z "${dump_host-}" ] || export PGHOST="$dump_host" PGPORT="$dump_port"
}
"#
    };
}

/// The way back.
pub mod back;

/// Each item ends with a NUL byte: names may hold line ends. `template1` is not dumped: it is what a restore
/// works from. The limit -2 is that of a database whose removal broke off.
const PROBE: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick psql
  export PGDATABASE=postgres
  psql --no-password --no-psqlrc --command='SELECT 1' >/dev/null 2>&1 || PGDATABASE=template1
  exec psql --no-password --no-psqlrc --no-align --tuples-only --quiet --record-separator-zero --command="
    SELECT 'server=' || current_setting('server_version') UNION ALL
    (SELECT 'database=' || datname FROM pg_catalog.pg_database
      WHERE datallowconn AND datconnlimit <> -2 AND datname NOT IN ('template0', 'template1') ORDER BY datname)
    UNION ALL
    (SELECT 'warning=the database ' || datname || ' is not in the dump: it takes no connections'
      FROM pg_catalog.pg_database
      WHERE NOT (datallowconn AND datconnlimit <> -2) AND datname NOT IN ('template0', 'template1')
      ORDER BY datname)"
}
"#
);

const DUMP_GLOBALS: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick pg_dumpall
  exec pg_dumpall --no-password --globals-only
}
"#
);

/// The name goes by the environment: as an argument it could be a connection string.
const DUMP_DATABASE: &str = concat!(
    login!(),
    r#"
run() {
  login
  pick pg_dump
  export PGDATABASE="$1"
  exec pg_dump --no-password --format=custom --compress=0
}
"#
);

pub(super) fn probe() -> Script {
    Script::new(PROBE)
}

pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let globals = Step {
        file: GLOBALS.to_owned(),
        role: DumpRole::Globals,
        database: None,
        script: Script::new(DUMP_GLOBALS),
        trailer: Trailer::Line(CLUSTER_END),
    };
    let databases = facts.databases.iter().map(|name| Step {
        file: format!("{}{DATABASE_ENDING}", file_name(name)),
        role: DumpRole::Database,
        database: Some(name.clone()),
        script: Script { args: vec![name.clone()], ..Script::new(DUMP_DATABASE) },
        trailer: Trailer::PgDump,
    });
    std::iter::once(globals).chain(databases).collect()
}
