use std::fs;
use std::path::Path;

use super::*;
use crate::files::FilesSettings;
use crate::files::patterns::Patterns;
use crate::intake::{IntakeReceiver, intake};
use crate::rule::Mode;

/// One that has found what is there, and read none of it.
fn follow(log: &Path) -> (Follow, IntakeReceiver) {
    let pattern = vec![log.to_str().unwrap().to_owned()];
    let patterns = Patterns::new(&pattern, &[]).unwrap();
    let (intake, receiver) = intake(std::sync::Arc::default());
    let settings = FilesSettings::new(pattern, "host".to_owned());
    let mut follow = Follow::new(settings, patterns, intake, Mode::Follow);
    let listed = follow.list();
    follow.resume(listed);
    (follow, receiver)
}

fn facts(path: &Path) -> FileFacts {
    FileFacts::of(&fs::File::open(path).unwrap()).unwrap()
}

#[test]
fn a_file_is_not_ended_before_the_one_that_had_its_name_before_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a.log"), "first\n").unwrap();
    let (mut follow, _receiver) = follow(&path("a.log"));
    let first = facts(&path("a.log"));
    for (name, text) in [("a.log.1", "second\n"), ("a.log.2", "third\n")] {
        fs::rename(path("a.log"), path(name)).unwrap();
        fs::write(path("a.log"), text).unwrap();
        follow.scan();
    }
    let second = facts(&path("a.log.2"));
    let refused = follow.retire(second.identity, second.size);
    assert!(matches!(refused, Answer::NotNow(_)), "{refused:?}");
    let id = follow.by_identity[&second.identity];
    assert_eq!(follow.files[&id].read(), 0);
    for file in [first, second] {
        // Each has its turn once it is asked for.
        follow.turn(follow.by_identity[&file.identity]);
        assert_eq!(follow.retire(file.identity, file.size), Answer::Done);
    }
}
