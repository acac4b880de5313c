use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::create::CreateOptions;
use crate::create::tests::{Fixture, noise};
use crate::repository::Repository;

struct Out(tempfile::TempDir);

impl Out {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

fn tree_path(path: &Path) -> PathBytes {
    select::typed_path(path.canonicalize().unwrap().to_str().unwrap().as_bytes()).unwrap()
}

fn stripped(fixture: &Fixture, into: Into) -> RestoreOptions {
    let strip = Some(tree_path(&fixture.source()));
    RestoreOptions {
        selection: Selection { strip, ..Selection::default() },
        into,
        dry_run: false,
        threads: 2,
        force: false,
        cache: None,
    }
}

fn run(
    repository: &Repository,
    snapshot: &Snapshot,
    out: &Out,
    options: &RestoreOptions,
) -> Result<RestoreReport, RestoreError> {
    restore(repository, snapshot, out.0.path(), options, &Progress::new(), &Shutdown::new())
}

#[test]
fn an_empty_target_gets_content_links_holes_and_metadata() {
    let fixture = Fixture::new();
    let large = noise(1, 5 << 20);
    fixture.write("deep/er/large", &large);
    fixture.write("empty", b"");
    fixture.write("a", b"one");
    fs::hard_link(fixture.source().join("a"), fixture.source().join("deep/b")).unwrap();
    symlink("../a", fixture.source().join("deep/link")).unwrap();
    let sparse = fs::File::create(fixture.source().join("sparse")).unwrap();
    sparse.set_len(32 << 20).unwrap();
    sparse.write_all_at(b"data", 16 << 20).unwrap();
    fs::set_permissions(fixture.source().join("deep"), fs::Permissions::from_mode(0o711)).unwrap();
    let snapshot = fixture.create();
    let out = Out::new();
    let report =
        run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    assert_eq!((report.damaged_count, report.warning_count), (0, 0), "{report:?}");
    assert_eq!(report.files, 5);
    assert_eq!(out.read("deep/er/large"), large);
    assert_eq!(out.read("empty"), b"");
    let stat = |name: &str| fs::symlink_metadata(out.path(name)).unwrap();
    assert_eq!(stat("a").ino(), stat("deep/b").ino());
    assert_eq!(fs::read_link(out.path("deep/link")).unwrap(), PathBuf::from("../a"));
    assert_eq!((stat("sparse").len(), stat("sparse").blocks() < 100), (32 << 20, true));
    assert_eq!(stat("deep").mode() & 0o7777, 0o711);
    let before = fs::metadata(fixture.source().join("deep")).unwrap();
    assert_eq!(stat("deep").mtime_nsec(), before.mtime_nsec());
}

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let fixture = Fixture::new();
    let snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("x"), "x").unwrap();
    let error = run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Empty));
    assert!(matches!(error, Err(RestoreError::NotEmpty(_))));
}

#[test]
fn directories_above_every_source_can_be_entered() {
    let fixture = Fixture::new();
    for source in ["one/a", "two/b", "two/c/d"] {
        fixture.write(&format!("{source}/file"), source.as_bytes());
    }
    let paths = ["one/a", "two/b", "two/c/d"].map(|path| fixture.source().join(path));
    let options = fixture.options_of(&paths.each_ref().map(PathBuf::as_path));
    let snapshot = fixture.create_with(options).unwrap().snapshot;
    let out = Out::new();
    let whole = RestoreOptions {
        selection: Selection::default(),
        into: Into::Empty,
        dry_run: false,
        threads: 1,
        force: false,
        cache: None,
    };
    run(&fixture.test.repository, &snapshot, &out, &whole).unwrap();
    let source = String::from_utf8(tree_path(&fixture.source())).unwrap();
    for parent in ["one", "two", "two/c"] {
        let mode = fs::metadata(out.path(&format!("{source}/{parent}"))).unwrap().mode();
        assert_eq!(mode & 0o777, PARENT_MODE, "{parent}");
    }
    assert_eq!(out.read(&format!("{source}/two/c/d/file")), b"two/c/d");
}

#[test]
fn several_chosen_paths_of_different_directories_are_restored() {
    let fixture = Fixture::new();
    for name in ["etc/hosts", "etc/passwd", "var/log/x", "var/log/y", "usr/z"] {
        fixture.write(name, name.as_bytes());
    }
    let snapshot = fixture.create();
    let mut options = stripped(&fixture, Into::Empty);
    for name in ["etc/hosts", "var/log/x"] {
        options.selection.paths.push(tree_path(&fixture.source().join(name)));
    }
    let out = Out::new();
    let report = run(&fixture.test.repository, &snapshot, &out, &options).unwrap();
    assert_eq!(report.files, 2);
    assert_eq!(out.read("etc/hosts"), b"etc/hosts");
    assert_eq!(out.read("var/log/x"), b"var/log/x");
    assert!(!out.path("etc/passwd").exists() && !out.path("usr").exists());
    assert_eq!(fs::metadata(out.path("var/log")).unwrap().mode() & 0o777, PARENT_MODE);
}

#[test]
fn names_of_a_file_whose_first_name_is_not_chosen_are_linked_to_each_other() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    for name in ["keep/x", "keep/y", "keep/z"] {
        fs::create_dir_all(fixture.source().join("keep")).unwrap();
        fs::hard_link(fixture.source().join("a"), fixture.source().join(name)).unwrap();
    }
    let snapshot = fixture.create();
    let mut options = stripped(&fixture, Into::Empty);
    options.selection.paths.push(tree_path(&fixture.source().join("keep")));
    let out = Out::new();
    run(&fixture.test.repository, &snapshot, &out, &options).unwrap();
    let inodes =
        ["x", "y", "z"].map(|n| fs::metadata(out.path(&format!("keep/{n}"))).unwrap().ino());
    assert!(inodes.iter().all(|inode| *inode == inodes[0]));
    assert_eq!(out.read("keep/z"), b"content");
}

#[test]
fn delta_changes_what_differs_removes_what_is_too_much_and_touches_nothing_else() {
    let fixture = Fixture::new();
    let large = noise(2, 4 << 20);
    for name in ["same", "deep/large"] {
        fixture.write(name, &large);
    }
    fixture.write("small", b"small");
    fixture.write("gone", b"gone");
    let snapshot = fixture.create();
    let out = Out::new();
    let repository = &fixture.test.repository;
    run(repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();

    let inode = |name: &str| fs::metadata(out.path(name)).unwrap().ino();
    let (same, changed) = (inode("same"), inode("deep/large"));
    let file = fs::File::options().write(true).open(out.path("deep/large")).unwrap();
    file.write_all_at(b"!!", 3 << 20).unwrap();
    fs::write(out.path("small"), "longer than it was").unwrap();
    fs::remove_file(out.path("gone")).unwrap();
    fs::create_dir_all(out.path("extra/tree")).unwrap();
    fs::write(out.path("extra/tree/file"), "x").unwrap();
    fs::write(out.path("zz"), "last of all").unwrap();

    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!((report.files, report.files_unchanged, report.removed), (3, 1, 2), "{report:?}");
    assert!(report.bytes < 1 << 20, "{report:?}");
    assert_eq!(out.read("deep/large"), large);
    assert_eq!(out.read("small"), b"small");
    assert_eq!(out.read("gone"), b"gone");
    assert_eq!((inode("same"), inode("deep/large")), (same, changed));
    assert!(!out.path("extra").exists() && !out.path("zz").exists());

    let again = run(repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!((again.files, again.files_unchanged, again.bytes), (0, 4, 0), "{again:?}");
}

#[test]
fn delta_leaves_what_is_right_alone_and_sets_what_is_not() {
    let fixture = Fixture::new();
    for name in ["deep/er/file", "other/file", "mode", "time"] {
        fixture.write(name, name.as_bytes());
    }
    let snapshot = fixture.create();
    let out = Out::new();
    let repository = &fixture.test.repository;
    run(repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    let names = ["", "deep", "deep/er", "deep/er/file", "other", "other/file", "mode", "time"];
    let states = || {
        names.map(|name| {
            let stat = fs::symlink_metadata(out.path(name)).unwrap();
            (name, (stat.ctime(), stat.ctime_nsec()), stat.mode(), stat.mtime_nsec())
        })
    };
    let before = states();
    fs::set_permissions(out.path("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
    let time = fs::File::options().write(true).open(out.path("time")).unwrap();
    time.set_modified(std::time::UNIX_EPOCH).unwrap();
    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!((report.files, report.files_unchanged), (0, 4), "{report:?}");
    for (before, after) in before.into_iter().zip(states()) {
        let (name, changed_at, mode, modified) = after;
        assert_eq!((mode, modified), (before.2, before.3), "{name}");
        let is_set = ["mode", "time"].contains(&name);
        assert_eq!(changed_at != before.1, is_set, "{name}");
    }
}

#[test]
fn delta_removes_surplus_in_every_source_and_nothing_outside_them() {
    let fixture = Fixture::new();
    for name in ["a/f", "b/f", "c/f"] {
        fixture.write(name, name.as_bytes());
    }
    let sources = ["a", "c"].map(|name| fixture.source().join(name));
    let options = fixture.options_of(&sources.each_ref().map(PathBuf::as_path));
    let snapshot = fixture.create_with(options).unwrap().snapshot;
    let out = Out::new();
    let top = String::from_utf8(tree_path(&fixture.source())).unwrap();
    for name in ["a/zzz", "b/f", "c/zzz", "d"] {
        let path = out.path(&format!("{top}/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "theirs").unwrap();
    }
    let delta = RestoreOptions {
        selection: Selection::default(),
        into: Into::Delta,
        dry_run: false,
        threads: 2,
        force: false,
        cache: None,
    };
    let report = run(&fixture.test.repository, &snapshot, &out, &delta).unwrap();
    assert_eq!(report.removed, 2);
    let exists = |name: &str| out.path(&format!("{top}/{name}")).exists();
    assert!(!exists("a/zzz") && !exists("c/zzz"));
    assert!(exists("b/f") && exists("d") && exists("a/f") && exists("c/f"));
}

#[test]
fn a_damaged_pack_costs_its_files_and_no_others() {
    let fixture = Fixture::new();
    for number in 0..40 {
        fixture.write(&format!("{number:02}"), &noise(number, 1 << 20));
    }
    let snapshot = fixture.create_with(CreateOptions { threads: 1, ..fixture.options() });
    let snapshot = snapshot.unwrap().snapshot;
    let packs = fixture.test.objects("packs/");
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    // Cut short in the middle: the frames before are whole.
    let length = fs::metadata(pack).unwrap().len();
    fs::File::options().write(true).open(pack).unwrap().set_len(length / 2).unwrap();
    let out = Out::new();
    let repository = &fixture.test.repository;
    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    // Packs of so small a repository are short.
    assert!((1..=11).contains(&report.damaged_count), "{report:?}");
    let whole = (0..40).filter(|number| {
        let path = out.path(&format!("{number:02}"));
        path.exists() && fs::read(path).unwrap() == noise(*number, 1 << 20)
    });
    assert_eq!(whole.count() as u64 + report.damaged_count, 40);
    let made = fs::read_dir(out.0.path()).unwrap().count() as u64;
    assert_eq!(made + report.damaged_count, 40, "a damaged file was left behind");

    let kept = Out::new();
    fs::write(kept.path("old"), "old").unwrap();
    let error = run(repository, &snapshot, &kept, &stripped(&fixture, Into::Replace)).unwrap_err();
    assert!(matches!(error, RestoreError::Damaged(_)), "{error}");
    assert_eq!(kept.read("old"), b"old");
    assert_eq!(fs::read_dir(kept.0.path()).unwrap().count(), 1);
}

/// Breaks every frame of a pack.
fn spoil(pack: &Path) {
    let mut bytes = fs::read(pack).unwrap();
    bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
    fs::write(pack, bytes).unwrap();
}

#[test]
fn what_a_damaged_pack_held_comes_from_another_pack_that_has_it_too() {
    let fixture = Fixture::new();
    let (shared, large) = (noise(1, 300_000), noise(2, 3 << 20));
    fixture.write("large", &large);
    fixture.write("shared", &shared);
    let options = || CreateOptions { cache: None, ..fixture.options() };
    let first = fixture.create_with(options()).unwrap().snapshot;
    // The trees of the two differ, the content is the same.
    let mut packs = fixture.test.objects("packs/");
    packs.retain(|pack| fs::metadata(pack).unwrap().len() > 100_000);
    assert!(!packs.is_empty());
    // A second run that does not know of the first stores the same content again.
    let hidden = fixture.test.temp.path().join("hidden");
    fs::rename(fixture.test.path().join("index"), &hidden).unwrap();
    fixture.write("a first file", b"so that the packs differ");
    fixture.create_with(options()).unwrap();
    for index in fs::read_dir(&hidden).unwrap() {
        let index = index.unwrap();
        fs::rename(index.path(), fixture.test.path().join("index").join(index.file_name()))
            .unwrap();
    }
    let repository = &fixture.test.repository;
    let restore_first = || {
        let out = Out::new();
        let report = run(repository, &first, &out, &stripped(&fixture, Into::Empty)).unwrap();
        assert_eq!(report.damaged_count, 0, "{report:?}");
        assert_eq!((out.read("shared"), out.read("large")), (shared.clone(), large.clone()));
    };
    packs.iter().for_each(|pack| spoil(pack));
    restore_first();
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    restore_first();
}

#[test]
fn a_flipped_bit_in_a_frame_is_found_and_reported() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let snapshot = fixture.create();
    let packs = fixture.test.objects("packs/");
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    bytes[100_000] ^= 1;
    fs::write(pack, bytes).unwrap();
    let out = Out::new();
    let report =
        run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    assert_eq!((report.damaged_count, out.path("a").exists()), (1, false));
}

#[test]
fn replace_puts_the_snapshot_in_the_place_of_what_was_there() {
    let fixture = Fixture::new();
    fixture.write("new/file", b"new");
    fs::set_permissions(fixture.source(), fs::Permissions::from_mode(0o750)).unwrap();
    let snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("old"), "old").unwrap();
    let inode = fs::metadata(out.0.path()).unwrap().ino();
    run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Replace)).unwrap();
    assert!(!out.path("old").exists());
    assert_eq!(out.read("new/file"), b"new");
    let top = fs::metadata(out.0.path()).unwrap();
    assert_eq!((top.ino(), top.mode() & 0o777), (inode, 0o750));
}

#[test]
fn an_interrupted_restore_says_so_and_replace_keeps_the_old_content() {
    let fixture = Fixture::new();
    fixture.write("a", b"new");
    let snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("old"), "old").unwrap();
    let shutdown = Shutdown::new();
    shutdown.request();
    for into in [Into::Replace, Into::Delta] {
        let outcome = restore(
            &fixture.test.repository,
            &snapshot,
            out.0.path(),
            &stripped(&fixture, into),
            &Progress::new(),
            &shutdown,
        );
        assert!(matches!(outcome, Err(RestoreError::Interrupted)));
        assert_eq!(out.read("old"), b"old");
    }
}

#[test]
fn a_dry_run_counts_and_makes_nothing() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let snapshot = fixture.create();
    let out = Out::new();
    let mut options = stripped(&fixture, Into::Empty);
    options.dry_run = true;
    let missing = out.path("not made");
    let report = restore(
        &fixture.test.repository,
        &snapshot,
        &missing,
        &options,
        &Progress::new(),
        &Shutdown::new(),
    );
    let report = report.unwrap();
    assert_eq!((report.files, report.directories, report.bytes), (1, 1, 7));
    assert!(!missing.exists());
}

#[test]
fn more_files_than_may_be_open_are_written_in_pieces() {
    let fixture = Fixture::new();
    // Files that share their chunks in opposite order are all begun before any is finished.
    let (one, two) = (noise(1, 300_000), noise(2, 300_000));
    for number in 0..400 {
        let (first, second) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let mut content = [first.as_slice(), second, first].concat();
        content.extend(format!("{number}").as_bytes());
        fixture.write(&format!("{number}"), &content);
    }
    let snapshot = fixture.create();
    let out = Out::new();
    let report =
        run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    assert_eq!((report.files, report.damaged_count), (400, 0));
    for number in 0..400 {
        let name = number.to_string();
        assert_eq!(out.read(&name), fs::read(fixture.source().join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn a_choice_that_matches_nothing_is_refused() {
    let fixture = Fixture::new();
    let snapshot = fixture.create();
    let mut options = stripped(&fixture, Into::Empty);
    options.selection.paths.push(b"no/such/path".to_vec());
    let error = run(&fixture.test.repository, &snapshot, &Out::new(), &options).unwrap_err();
    assert!(matches!(error, RestoreError::Select(SelectError::NoPath(_))), "{error}");
}

#[test]
fn names_of_the_restore_journal_do_not_come_back_from_a_snapshot() {
    let fixture = Fixture::new();
    let planted = ".chores-enter-00000000000000ab";
    fixture.write(&format!("{planted}/tree/x"), b"planted");
    fixture.write("kept", b"kept");
    let hard = fixture.source().join("linked");
    fs::hard_link(fixture.source().join(planted).join("tree/x"), hard).unwrap();
    let snapshot = fixture.create();
    for into in [Into::Empty, Into::Replace, Into::Delta] {
        let out = Out::new();
        let report =
            run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, into)).unwrap();
        assert_eq!(report.warning_count, 1, "{into:?} {report:?}");
        assert!(report.warnings[0].contains(planted), "{report:?}");
        assert!(!out.path(planted).exists());
        assert_eq!((out.read("kept"), out.read("linked")), (b"kept".into(), b"planted".into()));
    }
}

#[test]
fn delta_keeps_an_empty_lost_and_found() {
    let fixture = Fixture::new();
    fixture.write("a", b"one");
    let snapshot = fixture.create();
    let out = Out::new();
    fs::create_dir(out.path("lost+found")).unwrap();
    fs::create_dir(out.path("surplus")).unwrap();
    let report =
        run(&fixture.test.repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!(report.removed, 1, "{report:?}");
    assert!(out.path("lost+found").is_dir());
}

#[test]
fn the_repository_and_the_cache_are_never_restored_over() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let snapshot = fixture.create();
    let repository = &fixture.test.repository;
    let temp = fixture.test.temp.path();
    let attempt = |target: &Path, into: Into, cache: Option<PathBuf>| {
        let options = RestoreOptions { cache, ..stripped(&fixture, into) };
        restore(repository, &snapshot, target, &options, &Progress::new(), &Shutdown::new())
    };
    let before = fixture.test.objects("").len();
    for into in [Into::Replace, Into::Delta, Into::Empty] {
        for place in ["repo", "repo/packs", "repo/new/er"] {
            let outcome = attempt(&temp.join(place), into, None);
            assert!(matches!(outcome, Err(RestoreError::InsideOwn(_))), "{into:?} {place}");
        }
    }
    let cache = temp.join("elsewhere/cache");
    fs::create_dir_all(&cache).unwrap();
    for into in [Into::Replace, Into::Delta] {
        for target in [temp.to_owned(), temp.join("elsewhere")] {
            let outcome = attempt(&target, into, Some(cache.clone()));
            let own = matches!(outcome, Err(RestoreError::Target(TargetError::Own { .. })));
            assert!(own, "{into:?} {target:?} {outcome:?}");
        }
    }
    assert!(cache.is_dir() && !temp.join("repo/new").exists());
    assert_eq!(fixture.test.objects("").len(), before);
}

#[test]
fn delta_keeps_the_live_files_whose_content_is_damaged_in_the_repository() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    fs::hard_link(fixture.source().join("a"), fixture.source().join("b")).unwrap();
    let snapshot = fixture.create();
    let packs = fixture.test.objects("packs/");
    spoil(packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap());
    let out = Out::new();
    let live = noise(9, 300_000);
    fs::write(out.path("a"), &live).unwrap();
    let repository = &fixture.test.repository;
    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!(report.damaged_count, 2, "{report:?}");
    assert_eq!(out.read("a").len(), live.len());
    assert!(report.damaged[0].1.contains("stays"), "{report:?}");
}

#[test]
fn further_names_of_a_socket_are_a_warning_and_no_damage() {
    let fixture = Fixture::new();
    fixture.write("file", b"content");
    let _server = std::os::unix::net::UnixListener::bind(fixture.source().join("a")).unwrap();
    fs::hard_link(fixture.source().join("a"), fixture.source().join("b")).unwrap();
    let snapshot = fixture.create();
    let out = Out::new();
    let repository = &fixture.test.repository;
    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Empty)).unwrap();
    assert_eq!((report.damaged_count, report.warning_count), (0, 1), "{report:?}");
}

#[test]
fn replace_by_a_part_and_removal_by_an_incomplete_snapshot_are_refused() {
    let fixture = Fixture::new();
    fixture.write("a", b"new");
    let mut snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("old"), "old").unwrap();
    let repository = &fixture.test.repository;
    let mut part = stripped(&fixture, Into::Replace);
    part.selection.paths.push(tree_path(&fixture.source().join("a")));
    let outcome = run(repository, &snapshot, &out, &part);
    assert!(matches!(outcome, Err(RestoreError::Partial)), "{outcome:?}");
    snapshot.state = State::Warnings;
    snapshot.warning_count = 3;
    for into in [Into::Replace, Into::Delta] {
        let outcome = run(repository, &snapshot, &out, &stripped(&fixture, into));
        assert!(matches!(outcome, Err(RestoreError::Incomplete { warnings: 3, .. })), "{into:?}");
    }
    assert_eq!(out.read("old"), b"old");
    let forced = RestoreOptions { force: true, ..stripped(&fixture, Into::Delta) };
    run(repository, &snapshot, &out, &forced).unwrap();
    assert_eq!(out.read("a"), b"new");
}

#[test]
fn a_dry_run_refuses_what_the_restore_would_refuse() {
    let fixture = Fixture::new();
    fixture.write("a", b"content");
    let snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("x"), "x").unwrap();
    let dry = RestoreOptions { dry_run: true, ..stripped(&fixture, Into::Empty) };
    let repository = &fixture.test.repository;
    let outcome = run(repository, &snapshot, &out, &dry);
    assert!(matches!(outcome, Err(RestoreError::NotEmpty(_))), "{outcome:?}");
    let dry = RestoreOptions { into: Into::Delta, ..dry };
    let above = fixture.test.temp.path();
    let outcome = restore(repository, &snapshot, above, &dry, &Progress::new(), &Shutdown::new());
    let own = matches!(outcome, Err(RestoreError::Target(TargetError::Own { .. })));
    assert!(own, "{outcome:?}");
}

#[test]
fn delta_counts_a_file_that_it_only_cut_as_changed() {
    let fixture = Fixture::new();
    fixture.write("a", b"");
    let snapshot = fixture.create();
    let out = Out::new();
    fs::write(out.path("a"), "too long").unwrap();
    let repository = &fixture.test.repository;
    let report = run(repository, &snapshot, &out, &stripped(&fixture, Into::Delta)).unwrap();
    assert_eq!((report.files, report.files_unchanged), (1, 0), "{report:?}");
    assert_eq!(out.read("a"), b"");
}
