use std::os::unix::ffi::OsStrExt as _;

use super::super::trees::INDEX_AGE_MIN;
use super::*;
use crate::browse::tests::{Fixture, noise};
use crate::prune::tests::repack::repack;
use crate::snapshot::Snapshot;

fn view(fixture: &Fixture, shown: &Shown) -> View {
    View::new(&fixture.repository, shown, (3, 4), false, &Shutdown::new()).unwrap()
}

fn one(fixture: &Fixture, (name, snapshot): &(SnapshotName, Snapshot)) -> View {
    view(fixture, &Shown::One(name.clone(), snapshot.time))
}

/// What is at a path below the root.
fn at(view: &View, path: &[u8]) -> Result<Attr, Refusal> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut found = view.attributes(ROOT)?;
    for name in names {
        found = view.lookup(found.number, name)?;
    }
    Ok(found)
}

/// The names in a directory, read in answers of at most `room` entries.
fn names(view: &View, number: u64, room: usize) -> Vec<String> {
    let (handle, _) = view.open_directory(number).unwrap();
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let (mut taken, from) = (0, offset);
        let take = |_, next, _, name: &[u8]| {
            if taken == room {
                return true;
            }
            taken += 1;
            offset = next;
            names.push(String::from_utf8_lossy(name).into_owned());
            false
        };
        view.list_directory(number, handle, from, take).unwrap();
        if taken == 0 {
            view.close_directory(handle);
            return names;
        }
    }
}

#[test]
fn numbers_are_those_of_what_they_were_made_from() {
    for inode in [
        Inode::Root,
        Inode::Group(1),
        Inode::Latest(1),
        Inode::Group(u32::MAX / 2),
        Inode::Latest(u32::MAX / 2),
        Inode::Node { snapshot: 1, node: 0 },
        Inode::Node { snapshot: u32::MAX, node: u32::MAX },
    ] {
        assert_eq!(Inode::of(inode.number()), inode);
    }
    assert_eq!(Inode::of(0), Inode::Group(0), "which there is none of");
}

#[test]
fn a_directory_is_listed_whole_however_small_the_answers_are() {
    let fixture = Fixture::new();
    for number in 0..20 {
        fixture.write(&format!("d/{number:02}"), "x");
    }
    let taken = fixture.back_up("n", 1);
    let single = one(&fixture, &taken);
    let directory = at(&single, &fixture.entry_path("d")).unwrap();
    let all = names(&single, directory.number, usize::MAX);
    assert_eq!(all.len(), 22);
    assert_eq!(all[..3], [".", "..", "00"]);
    for room in [1, 2, 3, 21] {
        assert_eq!(names(&single, directory.number, room), all);
    }
    let all = view(&fixture, &Shown::All);
    assert_eq!(names(&all, ROOT, 1), [".", "..", "n"]);
    let group = at(&all, b"n").unwrap();
    assert_eq!(names(&all, group.number, 1), names(&all, group.number, usize::MAX));
    assert!(lock(&all.listings).get(1).is_none(), "a closed directory is kept");
}

#[test]
fn files_are_the_same_below_a_name_and_alone() {
    let fixture = Fixture::new();
    fixture.write("d/file", "content");
    let taken = fixture.back_up("n", 1);
    let path = fixture.entry_path("d/file");
    let single = one(&fixture, &taken);
    let all = view(&fixture, &Shown::All);
    let latest = at(&all, b"n/latest").unwrap();
    let target = all.target(latest.number).unwrap();
    assert_eq!((latest.known.tag, latest.known.size), (Tag::Symlink, target.len() as u64));
    let below = [&b"n/"[..], &target, b"/", &path].concat();
    for (view, path) in [(&single, &path), (&all, &below)] {
        let file = at(view, path).unwrap();
        assert_eq!((file.known.tag, file.known.size, file.lasting), (Tag::File, 7, true));
        let handle = view.open(file.number).unwrap();
        assert_eq!(view.read(handle, 3, 100).unwrap(), b"tent");
        assert_eq!(view.read(handle, 7, 100).unwrap(), b"");
        assert_eq!(view.read(handle, u64::MAX, 100).unwrap(), b"");
        view.close(handle);
        assert_eq!(view.read(handle, 0, 1), Err(Refusal::NotOpen));
        let directory = at(view, path.strip_suffix(b"/file").unwrap()).unwrap();
        assert_eq!(view.open(directory.number), Err(Refusal::IsADirectory));
        assert_eq!(view.target(directory.number), Err(Refusal::Invalid));
        assert_eq!(view.open_directory(file.number), Err(Refusal::NotADirectory));
        assert_eq!(view.lookup(directory.number, b"nothing"), Err(Refusal::NotFound));
        assert_eq!(view.xattr(file.number, b"user.none"), Err(Refusal::NoAttribute));
    }
    assert_eq!(at(&all, b"nobody"), Err(Refusal::NotFound));
    assert_eq!(all.attributes(9 << 32), Err(Refusal::NotFound));
    assert_eq!(all.attributes(1 << 32 | 0xffff), Err(Refusal::NotFound));
}

#[test]
fn the_directory_above_is_the_one_above() {
    let fixture = Fixture::new();
    fixture.write("d/file", "content");
    let taken = fixture.back_up("n", 1);
    let single = one(&fixture, &taken);
    let all = view(&fixture, &Shown::All);
    let parent = |view: &View, path: &[u8]| view.parent(at(view, path).unwrap().number).unwrap();
    let source = fixture.source();
    let source = source.as_os_str().as_bytes();
    let top = source.split(|byte| *byte == b'/').nth(1).unwrap();
    assert_eq!((parent(&single, b""), parent(&single, top)), (ROOT, ROOT));
    assert_eq!(parent(&single, &fixture.entry_path("d")), at(&single, source).unwrap().number);
    let target = all.target(at(&all, b"n/latest").unwrap().number).unwrap();
    let snapshot = [&b"n/"[..], &target].concat();
    assert_eq!((parent(&all, b""), parent(&all, b"n")), (ROOT, ROOT));
    assert_eq!(parent(&all, &snapshot), at(&all, b"n").unwrap().number);
    let below = [&snapshot[..], b"/", top].concat();
    assert_eq!(parent(&all, &below), at(&all, &snapshot).unwrap().number);
}

#[test]
fn what_is_saved_later_is_shown_and_who_looks_often_asks_the_store_seldom() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    fixture.back_up("a", 1);
    let view = view(&fixture, &Shown::All);
    fixture.write("file", "two");
    fixture.back_up("b", 2);
    assert_eq!(names(&view, ROOT, 9), [".", "..", "a"], "the list is young");
    let long_ago = Instant::now().checked_sub(LIST_AGE_MAX).unwrap();
    lock(&view.known).since = long_ago;
    assert_eq!(names(&view, ROOT, 9), [".", "..", "a", "b"]);
    let latest = view.target(at(&view, b"b/latest").unwrap().number).unwrap();
    let path = [&b"b/"[..], &latest, b"/", &fixture.entry_path("file")].concat();
    let handle = view.open(at(&view, &path).unwrap().number).unwrap();
    assert_eq!(view.read(handle, 0, 9).unwrap(), b"two");
}

#[test]
fn damage_is_refused_and_the_rest_is_read() {
    let fixture = Fixture::new();
    let content = noise(3 << 20, 5);
    fixture.write("noise", &content);
    let taken = fixture.back_up("n", 1);
    fixture.damage_content();
    let view = one(&fixture, &taken);
    let file = at(&view, &fixture.entry_path("noise")).unwrap();
    let handle = view.open(file.number).unwrap();
    const STEP: usize = 4096;
    let mut refused = 0;
    for (number, wanted) in content.chunks(STEP).enumerate() {
        match view.read(handle, (number * STEP) as u64, STEP as u32) {
            Ok(read) => assert!(read == wanted, "something else at step {number}"),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Unreadable);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && refused < content.len() / STEP, "{refused} steps were refused");
    // One word for each chunk, not for each read.
    assert!(lock(&view.told).len() < 40);
}

#[test]
fn a_prune_that_stores_content_anew_is_followed() {
    let fixture = Fixture::new();
    let content = noise(2 << 20, 6);
    fixture.write("noise", &content);
    let taken = fixture.back_up("n", 1);
    let view = one(&fixture, &taken);
    let file = at(&view, &fixture.entry_path("noise")).unwrap();
    let handle = view.open(file.number).unwrap();
    // The packs go, and the same content comes back in others.
    std::fs::remove_dir_all(fixture.path("repo/packs")).unwrap();
    std::fs::remove_dir_all(fixture.path("repo/index")).unwrap();
    fixture.back_up("again", 2);
    // The index is young, and its objects are others.
    assert!(view.read(handle, 0, 2 << 20).unwrap() == content);
    assert!(view.read(handle, 1 << 20, 4096).unwrap() == content[1 << 20..(1 << 20) + 4096]);
}

#[test]
fn what_another_process_moves_is_found_by_the_first_read_and_is_no_loss() {
    let fixture = Fixture::new();
    for number in 0..4 {
        fixture.write(&format!("{number}"), noise(300 << 10, number));
    }
    let taken = fixture.back_up("n", 1);
    for number in 0..3 {
        std::fs::remove_file(fixture.source().join(number.to_string())).unwrap();
    }
    let kept = fixture.back_up("n", 2);
    let view = view(&fixture, &Shown::All);
    let path = |(name, _): &(SnapshotName, Snapshot)| {
        let shown = format!("n/{}-{}/", name.time, name.id.short());
        [shown.as_bytes(), &fixture.entry_path("3")].concat()
    };
    let file = at(&view, &path(&kept)).unwrap();
    let handle = view.open(file.number).unwrap();
    let before: HashSet<_> = fixture.repository.stored_packs().unwrap().into_keys().collect();
    let other = fixture.reopened();
    other.remove_snapshot(&taken.0).unwrap();
    // Stored anew, marked, deleted.
    for _night in 0..3 {
        repack(&other, &fixture.path("repo"));
    }
    let after: HashSet<_> = fixture.repository.stored_packs().unwrap().into_keys().collect();
    assert!(!after.is_superset(&before), "nothing is gone");
    assert!(view.read(handle, 0, 300 << 10).unwrap() == noise(300 << 10, 3));
    // Nor does it count as lost that the snapshot names packs which are gone.
    assert!(lock(&view.trees.reading).unreadable.is_empty());
    assert!(at(&view, &path(&kept)).is_ok());
    assert!(lock(&view.trees.reading).unreadable.is_empty());
}

#[test]
fn a_thread_that_ends_unasked_ends_the_mount() {
    let fixture = Fixture::new();
    fixture.write("file", "content");
    let taken = fixture.back_up("n", 1);
    let mut view = one(&fixture, &taken);
    let file = at(&view, &fixture.entry_path("file")).unwrap();
    let handle = view.open(file.number).unwrap();
    view.contents = Contents::ended();
    assert!(!view.broken().is_requested());
    assert_eq!(view.read(handle, 0, 7), Err(Refusal::Unreadable));
    assert!(view.broken().is_requested());
}

#[test]
fn a_second_prune_is_followed_by_who_knows_of_the_first() {
    let fixture = Fixture::new();
    let content = noise(1 << 20, 7);
    fixture.write("noise", &content);
    let taken = fixture.back_up("n", 1);
    let view = one(&fixture, &taken);
    let file = at(&view, &fixture.entry_path("noise")).unwrap();
    let handle = view.open(file.number).unwrap();
    let (_, old) = view.file(handle).unwrap();
    let id = old.index.chunks().iter().map(|(id, _)| *id);
    let id = id.max_by_key(|id| old.index.find(id).unwrap().length).unwrap();
    let long_ago = Instant::now().checked_sub(INDEX_AGE_MIN).unwrap();
    let prune = |seconds| {
        std::fs::remove_dir_all(fixture.path("repo/packs")).unwrap();
        std::fs::remove_dir_all(fixture.path("repo/index")).unwrap();
        fixture.back_up("again", seconds);
    };
    prune(2);
    lock(&view.trees.reading).asked = Some(long_ago);
    view.trees.index_after(&old.index, &old.name).unwrap();
    prune(3);
    lock(&view.trees.reading).asked = Some(long_ago);
    assert!(view.chunk(&old, id).is_ok());
}

#[test]
fn the_saved_root_counts_where_others_look_too() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    fixture.back_up("n", 1);
    let all =
        |open| View::new(&fixture.repository, &Shown::All, (3, 4), open, &Shutdown::new()).unwrap();
    let root = |view: &View| {
        let target = view.target(at(view, b"n/latest").unwrap().number).unwrap();
        at(view, &[&b"n/"[..], &target].concat()).unwrap()
    };
    // This one is made up by either, but by the second from the entries.
    let (outside, inside) = (root(&all(false)), root(&all(true)));
    assert_eq!((outside.number, outside.known.mode, outside.known.uid), (inside.number, 0o755, 3));
    assert_eq!((inside.known.mode, inside.known.uid), (0o755, 0));
}

#[test]
fn a_snapshot_that_cannot_be_looked_into_is_not_tried_at_every_question() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    let (name, _) = fixture.back_up("n", 1);
    let view = view(&fixture, &Shown::All);
    fixture.repository.remove_snapshot(&name).unwrap();
    let number = Inode::Node { snapshot: 1, node: 1 }.number();
    assert_eq!(view.attributes(number), Err(Refusal::Unreadable));
    let since = lock(&view.refused)[&1];
    assert_eq!(view.attributes(number), Err(Refusal::Unreadable));
    assert_eq!(lock(&view.refused)[&1], since, "it was tried again");
}
