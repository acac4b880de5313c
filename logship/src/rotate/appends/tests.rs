use std::fs::{File, OpenOptions};

use super::*;

#[test]
fn flags_are_read_from_what_the_kernel_shows() {
    assert_eq!(flags("pos:\t0\nflags:\t0102001\nmnt_id:\t29\n"), Some(0o102_001));
    assert_eq!(flags("pos:\t0\n"), None);
}

#[test]
fn all_writers_append_only_when_all_are_seen_and_do() {
    let seen = |appending, others, is_complete| {
        Seen { appending, others, is_complete, threads: 1 }.verdict()
    };
    assert_eq!(seen(2, 0, true), Appends::All);
    assert_eq!(seen(2, 0, false), Appends::Unknown);
    assert_eq!(seen(0, 0, true), Appends::Unknown);
    assert_eq!(seen(2, 1, true), Appends::NotAll);
    assert_eq!(seen(0, 1, false), Appends::NotAll);
}

#[test]
fn only_who_may_look_into_every_process_sees_all() {
    let status =
        |uid: &str, rights: &str| format!("Name:\tx\nUid:\t{uid}\nCapInh:\t0\nCapEff:\t{rights}\n");
    assert!(sees_all(&status("0\t0\t0\t0", "000001ffffffffff")));
    assert!(sees_all(&status("1000\t0\t0\t0", "0000000000080000")));
    assert!(!sees_all(&status("0\t0\t0\t0", "00000000a80425fb")));
    assert!(!sees_all(&status("0\t1000\t0\t0", "000001ffffffffff")));
    assert!(!sees_all(""));
}

#[test]
fn a_writer_that_does_not_append_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let appending = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let seen = look(&reader, Path::new("/proc"));
    assert!(matches!(seen, Appends::All | Appends::Unknown), "{seen:?}");
    let plain = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(look(&reader, Path::new("/proc")), Appends::NotAll);
    drop((appending, plain));
}

#[test]
fn looks_take_a_small_part_of_the_time_however_long_one_is() {
    let mut pace = Pace::default();
    let now = Instant::now();
    assert!(pace.is_due(now));
    let time = Duration::from_millis(10);
    pace.took(time, now);
    assert!(!pace.is_due(now + 18 * time) && pace.is_due(now + 19 * time));
    // A host with so many processes waits the longer.
    pace.took(10 * time, now);
    assert!(!pace.is_due(now + 189 * time) && pace.is_due(now + 190 * time));
}
