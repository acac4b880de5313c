use std::fs;
use std::path::Path;

use super::*;

const ID: u64 = 0xab;
const DIGITS: &Id = b"00000000000000ab";

fn names(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Every file below `directory` with its content, sorted.
fn tree(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

const OLD_TREE: &[(&str, &str)] = &[("both/file", "old"), ("extra", "old"), ("same", "old")];
const NEW_TREE: &[(&str, &str)] = &[("both/other", "new"), ("fresh", "new"), ("same", "new")];

#[test]
fn the_new_tree_takes_the_place_of_the_old_one() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), OLD_TREE);
    let target = Target::open(temp.path()).unwrap();
    let (staging, leftovers) = target.stage(ID).unwrap();
    assert_eq!(leftovers, []);
    for (name, content) in NEW_TREE {
        let mut file = staging.target().create_file(name.as_bytes()).unwrap();
        Write::write_all(&mut file, content.as_bytes()).unwrap();
    }
    target.swap_in(staging).unwrap();
    assert_eq!(tree(temp.path()), pairs(NEW_TREE));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3);
}

#[test]
fn an_abandoned_restore_leaves_the_old_tree() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), OLD_TREE);
    let target = Target::open(temp.path()).unwrap();
    let (staging, _) = target.stage(ID).unwrap();
    drop(staging.target().create_file(b"a/b").unwrap());
    target.abandon(staging).unwrap();
    assert_eq!(tree(temp.path()), pairs(OLD_TREE));
}

/// Makes a directory of the journal as a killed restore leaves it.
fn leave(directory: &Path, stage: &str, files: &[(&str, &str)]) -> String {
    let target = Target::open(directory).unwrap();
    drop(target.make_holder(stage, DIGITS).unwrap());
    let name = String::from_utf8(stage_name(stage, DIGITS)).unwrap();
    write(&directory.join(&name).join("tree"), files);
    name
}

#[test]
fn a_restore_killed_before_it_was_complete_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), OLD_TREE);
    leave(temp.path(), RESTORE, NEW_TREE);
    let target = Target::open(temp.path()).unwrap();
    let (staging, leftovers) = target.stage(ID).unwrap();
    assert_eq!(leftovers, [Leftover::Removed]);
    target.abandon(staging).unwrap();
    assert_eq!(tree(temp.path()), pairs(OLD_TREE));
}

/// Lays out what a kill after `moved` renames of the replacement leaves, and lets the next one settle.
fn check_killed_after(moved: usize) {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    write(temp.path(), OLD_TREE);
    let enter = ".chores-enter-00000000000000ab";
    let ready = &leave(temp.path(), READY, NEW_TREE);
    let old = &leave(temp.path(), OLD, &[]);
    let old_names = ["both", "extra", "same"];
    let new_names = ["both", "fresh", "same"];
    let mut renames: Vec<(String, String)> = Vec::new();
    renames.extend(old_names.map(|name| (name.to_owned(), format!("{old}/tree/{name}"))));
    renames.push((ready.to_owned(), enter.to_owned()));
    renames.extend(new_names.map(|name| (format!("{enter}/tree/{name}"), name.to_owned())));
    renames.push((enter.to_owned(), format!("{old}/tree/{enter}")));
    for (from, to) in renames.iter().take(moved) {
        fs::rename(at(from), at(to)).unwrap();
    }
    let target = Target::open(temp.path()).unwrap();
    assert_eq!(target.settle().unwrap(), [Leftover::Completed], "{moved} renames");
    assert_eq!(tree(temp.path()), pairs(NEW_TREE), "{moved} renames");
    assert_eq!(target.settle().unwrap(), []);
}

#[test]
fn a_replacement_killed_at_any_rename_is_completed() {
    (0..=8).for_each(check_killed_after);
}

#[test]
fn an_old_tree_that_was_not_yet_removed_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), NEW_TREE);
    leave(temp.path(), OLD, OLD_TREE);
    let target = Target::open(temp.path()).unwrap();
    assert_eq!(target.settle().unwrap(), [Leftover::Completed]);
    assert_eq!(tree(temp.path()), pairs(NEW_TREE));
}

#[test]
fn what_a_running_writer_makes_meanwhile_does_not_stop_the_replacement() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), ENTER, NEW_TREE);
    leave(temp.path(), OLD, OLD_TREE);
    write(temp.path(), &[("same", "intruder"), ("both/file", "intruder")]);
    let target = Target::open(temp.path()).unwrap();
    assert_eq!(target.settle().unwrap(), [Leftover::Completed]);
    assert_eq!(tree(temp.path()), pairs(NEW_TREE));
}

#[test]
fn a_target_that_is_being_replaced_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let first = Target::open(temp.path()).unwrap();
    let (_staging, _) = first.stage(1).unwrap();
    let second = Target::open(temp.path()).unwrap();
    let error = second.stage(2).unwrap_err();
    assert!(matches!(error, TargetError::InUse { .. }), "{error}");
    drop(first);
    assert!(second.stage(2).is_ok());
}

#[test]
fn the_names_at_the_top_tell_what_is_to_be_done() {
    let check = |found: &[&str], expected: &[Step]| {
        assert_eq!(steps(&names(found)), expected, "{found:?}");
    };
    let (restore, ready) = (".chores-restore-00000000000000ab", ".chores-ready-00000000000000ab");
    let (enter, old) = (".chores-enter-00000000000000ab", ".chores-old-00000000000000ab");
    check(&["a", "b"], &[]);
    check(&[restore], &[Step::RemoveUnfinished(*DIGITS)]);
    check(&[ready], &[Step::MoveOldOut(*DIGITS)]);
    check(&[old, ready], &[Step::MoveOldOut(*DIGITS)]);
    check(&[enter, old], &[Step::MoveNewIn(*DIGITS)]);
    check(&[old], &[Step::RemoveOld(*DIGITS)]);
    let other = ".chores-old-00000000000000aa";
    let both = [Step::RemoveOld(*b"00000000000000aa"), Step::RemoveUnfinished(*DIGITS)];
    check(&[restore, other], &both);
}

#[test]
fn names_that_only_look_like_ours_are_left_alone() {
    for name in
        [".chores-restore-x", ".chores-old-00000000000000AB", ".chores-other-00000000000000ab"]
    {
        assert_eq!(stage_of(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn planted_names_of_the_journal_are_data_like_any_other() {
    let enter = ".chores-enter-00000000000000ab";
    let plant = |spoil: fn(&Path)| {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), OLD_TREE);
        leave(temp.path(), ENTER, NEW_TREE);
        spoil(&temp.path().join(enter));
        let before = tree(temp.path());
        let target = Target::open(temp.path()).unwrap();
        assert_eq!(target.settle().unwrap(), []);
        assert_eq!(tree(temp.path()), before);
    };
    plant(|planted| fs::remove_file(planted.join("proof")).unwrap());
    plant(|planted| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(planted, fs::Permissions::from_mode(0o755)).unwrap();
    });
    plant(|planted| {
        let proof = planted.join("proof");
        let text = fs::read_to_string(&proof).unwrap();
        fs::write(&proof, text.replace("inode ", "inode 1")).unwrap();
    });
    plant(|planted| {
        let other = planted.with_file_name(".chores-enter-00000000000000ac");
        fs::rename(planted, other).unwrap();
    });
}

#[test]
fn a_replacement_takes_planted_names_away_with_the_old_tree() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), OLD_TREE);
    write(&temp.path().join(".chores-enter-00000000000000ac"), NEW_TREE);
    let target = Target::open(temp.path()).unwrap();
    let (staging, leftovers) = target.stage(ID).unwrap();
    assert_eq!(leftovers, []);
    drop(staging.target().create_file(b"proof").unwrap());
    target.swap_in(staging).unwrap();
    assert_eq!(tree(temp.path()), pairs(&[("proof", "")]));
}

#[test]
fn names_of_the_journal_are_reserved_at_the_top_only() {
    for path in [".chores-old-00000000000000ab", ".chores-ready-00000000000000ab/x/y"] {
        assert!(is_reserved(path.as_bytes()), "{path}");
    }
    for path in ["", "a/.chores-old-00000000000000ab", ".chores-old-ab", ".chores"] {
        assert!(!is_reserved(path.as_bytes()), "{path}");
    }
}

#[test]
fn an_empty_lost_and_found_outlives_a_replacement() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), OLD_TREE);
    let kept = temp.path().join("lost+found");
    fs::create_dir(&kept).unwrap();
    let inode = fs::metadata(&kept).unwrap().ino();
    let target = Target::open(temp.path()).unwrap();
    let (staging, _) = target.stage(ID).unwrap();
    target.swap_in(staging).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().ino(), inode);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}
