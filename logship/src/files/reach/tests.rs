use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// `inside` with files and links, and beside it what nobody may reach.
fn scene() -> (tempfile::TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let at = |path: &str| top.path().join(path);
    fs::create_dir_all(at("inside/deep")).unwrap();
    fs::create_dir(at("inside-too")).unwrap();
    fs::create_dir(at("outside")).unwrap();
    fs::write(at("inside/app.1.log"), "inside").unwrap();
    fs::write(at("inside/deep/x.log"), "inside").unwrap();
    fs::write(at("outside/secret"), "secret").unwrap();
    fs::write(at("inside-too/secret"), "secret").unwrap();
    let links = [
        ("app.1.log", "inside/current.log"),
        ("../app.1.log", "inside/deep/up.log"),
        ("deep", "inside/shallow"),
        ("../outside/secret", "inside/relative.log"),
        ("../inside-too/secret", "inside/namesake.log"),
        ("../outside", "inside/directory"),
        ("loop.log", "inside/loop.log"),
        ("nowhere", "inside/dangling.log"),
        ("/proc/self/root/etc/passwd", "inside/magic.log"),
    ];
    for (target, link) in links {
        symlink(target, at(link)).unwrap();
    }
    symlink(at("inside/app.1.log"), at("inside/absolute-in.log")).unwrap();
    symlink(at("outside/secret"), at("inside/absolute-out.log")).unwrap();
    symlink(at("inside"), at("as-written")).unwrap();
    let root = at("inside");
    (top, root)
}

fn content(handle: OwnedFd) -> String {
    let mut text = String::new();
    File::from(handle).read_to_string(&mut text).unwrap();
    text
}

/// With `openat2(2)`, and without it.
fn each_way(root: &Path, below: &str, flags: OFlags) -> [io::Result<OwnedFd>; 2] {
    let named = OFlags::PATH | OFlags::DIRECTORY;
    let directory = openat(CWD, root, named, Mode::empty()).unwrap();
    let below = Path::new(below);
    [open(root, below, flags), open_proved(directory.as_fd(), root, below, flags)]
}

#[test]
fn links_inside_are_followed_and_links_out_are_not() {
    let (top, root) = scene();
    for root in [root, top.path().join("as-written")] {
        for below in [
            "app.1.log",
            "current.log",
            "deep/up.log",
            "shallow/x.log",
            "shallow/up.log",
            "absolute-in.log",
        ] {
            for opened in each_way(&root, below, READ) {
                assert_eq!(content(opened.unwrap()), "inside", "{below}");
            }
        }
        for below in [
            "relative.log",
            "namesake.log",
            "absolute-out.log",
            "directory/secret",
            "magic.log",
            "../outside/secret",
            "..",
        ] {
            for flags in [READ, OFlags::PATH] {
                for opened in each_way(&root, below, flags) {
                    let error = opened.unwrap_err();
                    assert!(is_outside(&error), "{below}: {error}");
                }
            }
        }
        for (below, code) in [("loop.log", 40), ("dangling.log", 2), ("app.1.log/x", 20)] {
            for opened in each_way(&root, below, READ) {
                assert_eq!(opened.unwrap_err().raw_os_error(), Some(code), "{below}");
            }
        }
    }
}

#[test]
fn a_pipe_holds_up_nobody() {
    let (_top, root) = scene();
    let kind = rustix::fs::FileType::Fifo;
    let mode = Mode::RUSR;
    rustix::fs::mknodat(CWD, root.join("pipe.log"), kind, mode, 0).unwrap();
    for opened in each_way(&root, "pipe.log", READ) {
        opened.unwrap();
    }
}

#[test]
fn places_are_compared_name_by_name() {
    let below = |place: &str, root: &str| is_below(Path::new(place), Path::new(root));
    for (place, root, expected) in [
        ("/logs/a", "/logs", true),
        ("/logs", "/logs", true),
        ("/logs-too/a", "/logs", false),
        ("/log", "/logs", false),
        ("/a", "/", true),
        ("pipe:[17]", "/", false),
        ("(unreachable)/logs/a", "/logs", false),
        ("(unreachable)/logs/a", "(unreachable)/logs", false),
        ("/logs/a (deleted)", "/logs", true),
        ("/logs", "/logs (deleted)", false),
    ] {
        assert_eq!(below(place, root), expected, "{place} in {root}");
    }
}

/// Somebody swaps what a name means as fast as he can.
#[test]
fn no_moment_lets_a_link_out_through() {
    let (top, root) = scene();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let outside = top.path().join("outside/secret");
            while !is_over.load(Ordering::Relaxed) {
                for target in [Path::new("app.1.log"), &outside, Path::new("../outside/secret")] {
                    symlink(target, root.join("next")).unwrap();
                    fs::rename(root.join("next"), root.join("swapped.log")).unwrap();
                }
                for target in ["deep", "../outside"] {
                    symlink(target, root.join("next")).unwrap();
                    fs::rename(root.join("next"), root.join("turned")).unwrap();
                }
            }
        });
        let until = Instant::now() + Duration::from_millis(500);
        let mut read = Vec::new();
        while Instant::now() < until {
            for below in ["swapped.log", "turned/secret", "turned/up.log"] {
                let opened = each_way(&root, below, READ).into_iter().flatten();
                read.extend(opened.map(content));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(!read.is_empty() && read.iter().all(|text| text == "inside"));
    });
}
