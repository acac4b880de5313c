use super::*;

fn found(path: &str) -> Option<Database> {
    sign(path, || true).map(|sign| sign.database)
}

#[test]
fn databases_are_known_by_their_files() {
    let known = [
        ("ibdata1", Database::MySql),
        ("mysql/aria_log_control", Database::MySql),
        ("16/docker/postmaster.pid", Database::Postgres),
        ("WiredTiger", Database::WiredTiger),
        ("appendonly.aof", Database::Redis),
        ("appendonlydir/appendonly.aof.1.incr.aof", Database::Redis),
        ("app/store.db-wal", Database::Sqlite),
    ];
    for (path, database) in known {
        assert_eq!(found(path), Some(database), "{path}");
    }
    for other in ["dump.rdb", "PG_VERSION", "ibdata", "notes-wal/readme", "my.cnf", ""] {
        assert_eq!(found(other), None, "{other}");
    }
    assert_eq!(sign("x-wal", || false), None, "an empty log holds nothing");
}

#[test]
fn what_runs_is_refused_with_the_ways_out_and_the_unknown_is_flagged() {
    let sign = sign("ibdata1", || false).unwrap();
    assert_eq!(judge("/data", &sign, Users::Known(&[])), Verdict::Fine);
    let names = ["shop".to_owned(), "admin".to_owned()];
    let Verdict::Refuse(text) = judge("/data", &sign, Users::Known(&names)) else { panic!() };
    for word in [
        "/data",
        "ibdata1",
        "shop, admin",
        "--pause shop",
        "--stop shop",
        "backup dump --container shop",
        "--allow-live-database",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let Verdict::Flag(text) = judge("/data", &sign, Users::Unknown) else { panic!() };
    assert!(text.contains("--allow-live-database"), "{text}");
}

#[test]
fn what_was_not_looked_at_whole_is_flagged_unless_nobody_writes_it() {
    assert_eq!(judge_unseen("/data", 7, Users::Known(&[])), Verdict::Fine);
    for users in [Users::Unknown, Users::Known(&["shop".to_owned()])] {
        let Verdict::Flag(text) = judge_unseen("/data", 7, users) else { panic!() };
        assert!(text.contains("/data") && text.contains("more than 7 names"), "{text}");
    }
}
