use super::*;
use crate::engine::connect;

/// Every kind starts, takes a load that is an unbroken sequence, and keeps it over a restart.
fn keeps_a_load(kind: Kind, secret: Secret) {
    let Some(engine) = connect() else { return };
    let Some(database) = Database::start_with(&engine, kind, secret, |spec| {
        if kind == Kind::Redis {
            spec.command.extend(["--appendonly".to_owned(), "yes".to_owned()]);
        }
    }) else {
        return;
    };
    database.wait_ready();
    let load = database.load();
    load.wait_past(50);
    let last = load.stop();
    assert_eq!(assert_is_prefix(&database.numbers(), 51), last);
    database.container().stop();
    database.container().start();
    database.wait_ready();
    let numbers = database.numbers();
    assert_eq!(assert_is_prefix(&numbers, last), last);
    let _more = database.load().stop();
    assert_is_prefix(&database.numbers(), last + 1);
}

#[test]
fn mariadb_keeps_a_load() {
    keeps_a_load(Kind::MariaDb, Secret::Plain);
}

#[test]
fn postgres_keeps_a_load() {
    keeps_a_load(Kind::Postgres, Secret::Plain);
}

#[test]
fn redis_keeps_a_load() {
    keeps_a_load(Kind::Redis, Secret::Plain);
}

#[test]
fn sqlite_keeps_a_load() {
    keeps_a_load(Kind::Sqlite, Secret::Plain);
}

#[test]
fn passwords_may_be_in_files() {
    keeps_a_load(Kind::MariaDb, Secret::File);
    keeps_a_load(Kind::Postgres, Secret::File);
}

#[test]
#[should_panic(expected = "without [3]")]
fn a_hole_is_found() {
    assert_is_prefix(&[1, 2, 4, 5], 1);
}

#[test]
#[should_panic(expected = "only 2 are there")]
fn a_lost_end_is_found() {
    assert_is_prefix(&[1, 2], 3);
}
