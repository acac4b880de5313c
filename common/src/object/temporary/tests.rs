use std::time::UNIX_EPOCH;

use super::*;

fn file(key: &str, seconds: u64) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), size: 1, modified: UNIX_EPOCH + Duration::from_secs(seconds) }
}

#[test]
fn what_is_old_beside_the_newest_file_is_stale_and_objects_never_are() {
    let all = vec![
        file("packs/ab/.1.tmp-0123456789abcdef", 100),
        file("packs/ab/.2.tmp-0123456789abcdef", 999),
        file("packs/ab/1", 1),
        file("snapshots/1", 1000),
    ];
    let keys: Vec<_> =
        stale(all, Duration::from_secs(60)).into_iter().map(|file| file.key).collect();
    assert_eq!(keys, ["packs/ab/.1.tmp-0123456789abcdef"]);
}

#[test]
fn a_clock_of_ours_plays_no_part() {
    // All of it is decades old for us.
    let all = vec![file(".1.tmp-0123456789abcdef", 100), file("a", 110)];
    assert!(stale(all, Duration::from_secs(60)).is_empty());
}

#[test]
fn a_temporary_file_is_inside_of_the_store() {
    for key in [".a.tmp-0123456789abcdef", "packs/ab/.1.tmp-0123456789abcdef"] {
        assert!(is_temporary(key), "{key}");
    }
    for key in [
        "packs/ab/1",
        "../.a.tmp-0123456789abcdef",
        "packs/../../.a.tmp-0123456789abcdef",
        "/etc/.a.tmp-0123456789abcdef",
        "packs//.a.tmp-0123456789abcdef",
        "packs/.a\0.tmp-0123456789abcdef",
    ] {
        assert!(!is_temporary(key), "{key:?}");
    }
}
