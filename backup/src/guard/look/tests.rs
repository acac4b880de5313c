use std::fs;
use std::path::Path;

use super::super::database::Database;
use super::*;

fn found(directory: &Path) -> Option<(Database, String)> {
    match look(&SourceRoot::open(directory).unwrap()) {
        Seen::Sign(sign) => Some((sign.database, sign.path)),
        Seen::Nothing => None,
        Seen::NothingIn(names) => panic!("{names}"),
    }
}

#[test]
fn where_the_look_broke_off_nothing_is_known() {
    let top = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(top.path().join(name), "").unwrap();
    }
    let root = SourceRoot::open(top.path()).unwrap();
    assert_eq!(look_at(&root, 3), Seen::Nothing);
    assert_eq!(look_at(&root, 2), Seen::NothingIn(2));
}

#[test]
fn a_sign_is_found_some_levels_down_and_no_link_is_followed() {
    let top = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("ibdata1"), "x").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), top.path().join("link")).unwrap();
    fs::create_dir_all(top.path().join("16/docker/base/1")).unwrap();
    fs::write(top.path().join("16/docker/base/1/ibdata1"), "x").unwrap();
    assert_eq!(found(top.path()), None, "too deep, or elsewhere");
    fs::write(top.path().join("16/docker/postmaster.pid"), "1").unwrap();
    let sign = (Database::Postgres, "16/docker/postmaster.pid".to_owned());
    assert_eq!(found(top.path()), Some(sign));
}

#[test]
fn a_write_ahead_log_counts_beside_its_database_only() {
    let top = tempfile::tempdir().unwrap();
    let path = |name: &str| top.path().join(name);
    fs::write(path("notes-wal"), "x").unwrap();
    fs::write(path("notes"), "text that is long enough").unwrap();
    fs::write(path("app.db"), b"SQLite format 3\0rest").unwrap();
    fs::write(path("app.db-wal"), "").unwrap();
    assert_eq!(found(top.path()), None);
    fs::write(path("app.db-wal"), "frames").unwrap();
    assert_eq!(found(top.path()), Some((Database::Sqlite, "app.db-wal".to_owned())));
}
