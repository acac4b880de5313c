use std::fs;

use super::*;

fn names(found: &[Found]) -> Vec<String> {
    let name = |found: &Found| found.path.file_name().unwrap().to_string_lossy().into_owned();
    found.iter().map(name).collect()
}

fn place(directory: &Path) -> LogPlace {
    LogPlace { path: directory.join("x.log"), format: Format::JsonFile }
}

fn touch(directory: &Path, names: &[&str]) {
    for name in names {
        fs::write(directory.join(name), name).unwrap();
    }
}

#[test]
fn every_file_of_a_log_is_opened_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    assert!(!place.exists() && place.open().unwrap().is_empty());
    touch(
        directory.path(),
        &["x.log.3.gz", "x.log.2.gz", "x.log.1", "x.log.1.gz", "x.log", "y.log"],
    );
    assert!(place.exists());
    let found = place.open().unwrap();
    assert_eq!(names(&found), ["x.log", "x.log.1", "x.log.2.gz", "x.log.3.gz"]);
    let compressed: Vec<bool> = found.iter().map(|found| found.is_compressed).collect();
    assert_eq!(compressed, [false, false, true, true]);
}

#[test]
fn a_name_that_is_missing_while_the_engine_rotates_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    touch(directory.path(), &["x.log.2", "x.log.1"]);
    assert_eq!(names(&place(directory.path()).open().unwrap()), ["x.log.1", "x.log.2"]);
}

#[test]
fn only_what_is_newer_than_the_known_file_is_opened_then() {
    let directory = tempfile::tempdir().unwrap();
    touch(directory.path(), &["x.log.2", "x.log.1", "x.log"]);
    let place = place(directory.path());
    let all = place.open().unwrap();
    let newer = |known: &[FileIdentity]| {
        let newer = place.open_newer(|identity| known.contains(&identity)).unwrap();
        (names(&newer.files), newer.follows)
    };
    assert_eq!(newer(&[all[0].identity]), (vec![], true));
    assert_eq!(newer(&[all[2].identity]), (vec!["x.log".into(), "x.log.1".into()], true));
    let everything = ["x.log", "x.log.1", "x.log.2"].map(str::to_owned).to_vec();
    assert_eq!(newer(&[]), (everything, false));
}
