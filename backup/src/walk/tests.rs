use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FileType as RawFileType, chmodat, mkdirat, mknodat};

use super::*;
use crate::entry::tree_order;

fn options(threads: usize) -> WalkOptions {
    WalkOptions { threads, ..WalkOptions::default() }
}

fn walk_all(roots: &[SourceRoot], options: &WalkOptions) -> Vec<Event> {
    let mut events = Vec::new();
    let end = walk::<()>(roots, options, |event| {
        events.push(event);
        ControlFlow::Continue(())
    });
    assert_eq!(end, ControlFlow::Continue(()));
    events
}

/// What was found below `root`, relative to it, in the order of the walk.
fn found_below(root: &Path, options: &WalkOptions) -> Vec<String> {
    let root = SourceRoot::open(root).unwrap();
    let prefix = root.path().to_vec();
    walk_all(&[root], options)
        .into_iter()
        .map(|event| match event {
            Event::Found(found) => {
                let rest = found.path.strip_prefix(prefix.as_slice()).unwrap();
                String::from_utf8_lossy(rest.strip_prefix(b"/").unwrap_or(rest)).into_owned()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn tree(names: &[&str]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for name in names {
        let path = temp.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    temp
}

#[test]
fn a_directory_is_followed_by_its_children_before_its_siblings() {
    let temp = tree(&["a/x/1", "a/x/2", "a!", "a.b", "a/", "b/empty/", "z"]);
    let expected = ["", "a", "a/x", "a/x/1", "a/x/2", "a!", "a.b", "b", "b/empty", "z"];
    for threads in [0, 1, 2, 8] {
        assert_eq!(found_below(temp.path(), &options(threads)), expected, "{threads} threads");
    }
}

#[test]
fn a_wide_tree_gives_the_same_events_with_any_number_of_threads() {
    let names: Vec<String> = (0..40)
        .flat_map(|outer| (0..40).map(move |inner| format!("d{outer}/e{inner}/f{}", inner % 3)))
        .collect();
    let temp = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let alone = found_below(temp.path(), &options(0));
    assert_eq!(alone.len(), 1 + 40 + 1600 + 1600);
    assert!(alone.is_sorted_by(|a, b| tree_order(a.as_bytes(), b.as_bytes()).is_lt()));
    for threads in [1, 2, 4] {
        assert_eq!(found_below(temp.path(), &options(threads)), alone, "{threads} threads");
    }
}

#[test]
fn a_directory_larger_than_the_read_ahead_limit_is_walked_whole() {
    let temp = tempfile::tempdir().unwrap();
    for directory in ["a", "b", "c"] {
        fs::create_dir(temp.path().join(directory)).unwrap();
    }
    let wide = fs::File::open(temp.path().join("a")).unwrap();
    let first = ENTRIES_AHEAD_MAX + 10;
    for number in 0..first {
        mknodat(&wide, format!("{number}"), RawFileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    fs::write(temp.path().join("b/one"), "").unwrap();
    assert_eq!(found_below(temp.path(), &options(2)).len(), 1 + 3 + first + 1);
}

#[test]
fn every_kind_of_thing_is_found_with_its_metadata() {
    let temp = tree(&["file"]);
    let at = |name: &str| temp.path().join(name);
    symlink("nowhere", at("link")).unwrap();
    let directory = fs::File::open(temp.path()).unwrap();
    mknodat(&directory, "pipe", RawFileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::hard_link(at("file"), at("same")).unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let root = SourceRoot::open(temp.path()).unwrap();
    let stats: Vec<Stat> = walk_all(&[root], &options(1))
        .into_iter()
        .map(|event| match event {
            Event::Found(found) => found.stat,
            other => panic!("{other:?}"),
        })
        .collect();
    let kinds: Vec<FileType> = stats.iter().map(|stat| stat.kind).collect();
    use FileType::{Directory, Fifo, File, Socket, Symlink};
    assert_eq!(kinds, [Directory, File, Symlink, Fifo, File, Socket]);
    assert_eq!((stats[1].mode, stats[1].links, stats[1].size), (0o4751, 2, 4));
    assert!(stats[1].is_same_file(&stats[4]));
    assert!(!stats[1].is_same_file(&stats[0]));
}

#[test]
fn one_file_or_one_link_is_a_source() {
    let temp = tree(&["file", "real/inside"]);
    symlink("nowhere", temp.path().join("dangling")).unwrap();
    symlink("real", temp.path().join("alias")).unwrap();
    assert_eq!(found_below(&temp.path().join("file"), &options(2)), [""]);
    assert_eq!(found_below(&temp.path().join("dangling"), &options(2)), [""]);
    assert_eq!(found_below(&temp.path().join("alias"), &options(2)), ["", "inside"]);
    let alias = SourceRoot::open(&temp.path().join("alias")).unwrap();
    assert!(alias.path().ends_with(b"/real"));
    let missing = SourceRoot::open(&temp.path().join("missing")).unwrap_err().to_string();
    assert!(missing.ends_with("does not exist; check the path and that its volume is mounted"));
}

#[test]
fn several_roots_keep_their_numbers() {
    let temp = tree(&["a/1", "b/2", "c"]);
    let roots: Vec<SourceRoot> = ["a", "b", "c"]
        .iter()
        .map(|name| SourceRoot::open(&temp.path().join(name)).unwrap())
        .collect();
    let numbers: Vec<usize> = walk_all(&roots, &options(2))
        .into_iter()
        .map(|event| match event {
            Event::Found(found) => found.root,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [0, 0, 1, 1, 2]);
}

#[test]
fn a_root_given_twice_does_not_stop_the_walk() {
    let temp = tree(&["a/1"]);
    let roots = [SourceRoot::open(temp.path()).unwrap(), SourceRoot::open(temp.path()).unwrap()];
    assert_eq!(walk_all(&roots, &options(2)).len(), 6);
}

#[test]
fn what_a_pattern_names_is_left_out_with_all_below() {
    let temp = tree(&["keep/tmp/x", "keep/a.log", "keep/b", "tmp"]);
    let exclude = Exclude::new(&["tmp/".to_owned(), "*.log".to_owned()]).unwrap();
    let options = WalkOptions { exclude, ..options(2) };
    assert_eq!(found_below(temp.path(), &options), ["", "keep", "keep/b", "tmp"]);
}

#[test]
fn the_repository_is_left_out_with_a_note() {
    let temp = tree(&["data", "repo/packs/1"]);
    let root = SourceRoot::open(temp.path()).unwrap();
    let own = SourceRoot::open(&temp.path().join("repo")).unwrap();
    let stat = Stat::read(own.directory(), b"").unwrap();
    let options = WalkOptions { skip: vec![(stat.device, stat.inode)], ..options(2) };
    let events = walk_all(&[root], &options);
    let [Event::Found(_), Event::Found(data), Event::Skipped(repo)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert!(data.path.ends_with(b"/data"));
    assert!(repo.path.ends_with(b"/repo"));
    assert_eq!(repo.reason, SkipReason::Own);
    let events = walk_all(&[own], &options);
    assert!(matches!(events.as_slice(), [Event::Skipped(_)]), "{events:?}");
}

#[test]
fn a_directory_replaced_by_a_link_is_not_followed() {
    let outside = tree(&["secret"]);
    let temp = tree(&["a/x", "b/inside"]);
    let swapped: PathBuf = temp.path().join("b");
    let root = SourceRoot::open(temp.path()).unwrap();
    let mut events = Vec::new();
    let end = walk::<()>(&[root], &options(0), |event| {
        if let Event::Found(found) = &event
            && found.path.ends_with(b"/b")
        {
            fs::remove_dir_all(&swapped).unwrap();
            symlink(outside.path(), &swapped).unwrap();
        }
        events.push(event);
        ControlFlow::Continue(())
    });
    assert_eq!(end, ControlFlow::Continue(()));
    let Some(Event::Warning(warning)) = events.last() else { panic!("{events:?}") };
    assert!(matches!(warning.problem, WalkProblem::Replaced), "{warning}");
    assert!(warning.to_string().ends_with("/b was replaced while the tree was read"));
}

#[test]
fn a_directory_that_vanishes_is_a_warning_and_the_walk_goes_on() {
    let temp = tree(&["a/x", "b"]);
    let root = SourceRoot::open(temp.path()).unwrap();
    let mut events = Vec::new();
    let end = walk::<()>(&[root], &options(0), |event| {
        if let Event::Found(found) = &event
            && found.path.ends_with(b"/a")
        {
            fs::remove_dir_all(temp.path().join("a")).unwrap();
        }
        events.push(event);
        ControlFlow::Continue(())
    });
    assert!(end.is_continue());
    let [.., Event::Warning(warning), Event::Found(last)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert!(matches!(warning.problem, WalkProblem::Vanished), "{warning}");
    assert!(last.path.ends_with(b"/b"));
}

#[test]
fn the_walk_ends_when_the_visitor_breaks() {
    let temp = tree(&["a/1", "b/2", "c/3"]);
    let root = SourceRoot::open(temp.path()).unwrap();
    let mut seen = 0;
    let end = walk(&[root], &options(4), |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break("enough") } else { ControlFlow::Continue(()) }
    });
    assert_eq!((end, seen), (ControlFlow::Break("enough"), 3));
}

#[test]
fn a_panic_of_the_visitor_does_not_leave_threads_waiting() {
    let temp = tree(&["a/1", "b/2"]);
    let root = SourceRoot::open(temp.path()).unwrap();
    let seen = AtomicUsize::new(0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        walk::<()>(&[root], &options(2), |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            panic!("the visitor gave up");
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[test]
fn a_tree_deeper_than_path_max_is_walked() {
    let temp = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut at = OwnedFd::from(fs::File::open(temp.path()).unwrap());
    for _ in 0..320 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), beneath::NAME_DIRECTORY, Mode::empty()).unwrap();
    }
    mknodat(&at, "leaf", RawFileType::RegularFile, Mode::RUSR, 0).unwrap();
    let found = found_below(temp.path(), &options(2));
    assert_eq!(found.len(), 322);
    assert!(found[321].ends_with("/leaf"));
    assert_eq!(found[321].len(), 320 * 201 + 4);
}

#[test]
fn a_view_into_the_kernel_is_recorded_and_not_entered() {
    let root = SourceRoot::open(Path::new("/")).unwrap();
    let exclude = Exclude::new(&["/[!p]*".to_owned(), "/p[!r]*".to_owned()]).unwrap();
    let events = walk_all(&[root], &WalkOptions { exclude, ..options(1) });
    let skipped: Vec<&Skipped> = events
        .iter()
        .filter_map(|event| if let Event::Skipped(skipped) = event { Some(skipped) } else { None })
        .collect();
    let [skipped] = skipped.as_slice() else { panic!("{events:?}") };
    assert_eq!(skipped.reason, SkipReason::KernelFileSystem("proc"));
    assert_eq!(skipped.to_string(), "/proc was not entered: it is a view into the kernel (proc)");
}

#[test]
fn with_one_file_system_mounts_are_recorded_and_not_entered() {
    let root = SourceRoot::open(Path::new("/")).unwrap();
    let exclude = Exclude::new(&["/[!p]*".to_owned(), "/p[!r]*".to_owned()]).unwrap();
    let events = walk_all(&[root], &WalkOptions { exclude, one_file_system: true, ..options(1) });
    let other = events.iter().any(|event| {
        matches!(event, Event::Skipped(skipped)
            if skipped.path == b"proc" && skipped.reason == SkipReason::OtherFileSystem)
    });
    assert!(other, "{events:?}");
}

#[test]
fn names_that_are_not_text_are_walked() {
    use std::os::unix::ffi::OsStrExt as _;
    let temp = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    fs::create_dir(temp.path().join(name)).unwrap();
    fs::write(temp.path().join(name).join("x"), "").unwrap();
    let root = SourceRoot::open(temp.path()).unwrap();
    let events = walk_all(&[root], &options(1));
    let Some(Event::Found(last)) = events.last() else { panic!("{events:?}") };
    assert!(last.path.ends_with(b"/\xff\xfe\n/x"));
}

#[test]
fn unreadable_directories_are_warnings_for_users_without_privileges() {
    let temp = tree(&["closed/inside", "open"]);
    let directory = fs::File::open(temp.path()).unwrap();
    chmodat(&directory, "closed", Mode::empty(), rustix::fs::AtFlags::empty()).unwrap();
    let root = SourceRoot::open(temp.path()).unwrap();
    let events = walk_all(&[root], &options(2));
    let warned = events.iter().any(|event| {
        matches!(event, Event::Warning(warning) if matches!(warning.problem, WalkProblem::Denied))
    });
    let inside = events
        .iter()
        .any(|event| matches!(event, Event::Found(found) if found.path.ends_with(b"/inside")));
    let found_open = events
        .iter()
        .any(|event| matches!(event, Event::Found(found) if found.path.ends_with(b"/open")));
    assert!(found_open);
    assert_ne!(warned, inside, "root reads it, anybody else is warned");
}
