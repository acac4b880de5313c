use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::exclude::Exclude;

fn options() -> StreamOptions {
    StreamOptions {
        walk: WalkOptions {
            exclude: Exclude::default(),
            one_file_system: false,
            skip: Vec::new(),
            threads: 0,
        },
        level: 3,
        threads: 2,
    }
}

/// Streams `root`, telling `observe` how much is done, and gives back the tar and what was said.
fn streamed(
    root: &Path,
    mut observe: impl FnMut(StreamReport),
) -> (StreamReport, Vec<u8>, Vec<String>) {
    let roots = [SourceRoot::open(root).unwrap()];
    let mut said = Vec::new();
    let (report, archive) = stream(&roots, &options(), Vec::new(), |notice| {
        match notice {
            Notice::Progress(report) => observe(report),
            Notice::Skipped(skipped) => said.push(skipped.to_string()),
            Notice::Warning(warning) => said.push(warning.to_string()),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(report.stored_bytes, archive.len() as u64);
    (report, zstd::decode_all(archive.as_slice()).unwrap(), said)
}

/// Path below `root`, size and content of every member.
fn members(root: &Path, tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let root = root.canonicalize().unwrap();
    let root = root.strip_prefix("/").unwrap();
    let mut archive = tar::Archive::new(tar);
    archive
        .entries()
        .unwrap()
        .map(|member| {
            let mut member = member.unwrap();
            let path = member.path().unwrap().strip_prefix(root).unwrap().display().to_string();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            (path, content)
        })
        .collect()
}

fn shown(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

#[test]
fn a_tree_comes_back_from_tar_and_zstd() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    fs::create_dir_all(source.join("dir/empty")).unwrap();
    fs::write(source.join("dir/file"), b"content").unwrap();
    fs::write(source.join("dir/large"), vec![7; 3 * READ_BYTES + 1]).unwrap();
    fs::hard_link(source.join("dir/file"), source.join("second")).unwrap();
    symlink("dir/file", source.join("link")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 64 << 20).unwrap();
    let _socket = UnixListener::bind(source.join("socket")).unwrap();

    let (report, tar, said) = streamed(&source, |_| ());
    assert_eq!(said, [format!("{} was left out: it is a socket", shown(&source.join("socket")))]);
    assert_eq!((report.entries, report.skipped, report.warnings), (8, 1, 0));
    assert!(report.content_bytes < 4 << 20, "{report:?}");

    fs::create_dir(&target).unwrap();
    let archive = scratch.path().join("archive.tar");
    fs::write(&archive, &tar).unwrap();
    let output = std::process::Command::new("tar")
        .arg("-xpf")
        .arg(&archive)
        .arg("-C")
        .arg(&target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored = target.join(shown(&source).trim_start_matches('/'));
    fs::remove_file(source.join("socket")).unwrap();
    let difference = std::process::Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([&source, &restored])
        .output()
        .unwrap();
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
    let inode = |path: &str| fs::metadata(restored.join(path)).unwrap().ino();
    assert_eq!(inode("dir/file"), inode("second"));
    assert!(fs::metadata(restored.join("sparse")).unwrap().blocks() < 1000);
    let mtime = |root: &Path| fs::metadata(root.join("dir")).unwrap().mtime_nsec();
    assert_eq!(mtime(&source), mtime(&restored));
}

#[test]
fn a_file_that_grows_is_archived_up_to_its_first_size() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    fs::write(&path, vec![1; 2 * READ_BYTES]).unwrap();
    fs::write(scratch.path().join("next"), b"n").unwrap();
    let mut grown = false;
    let (report, tar, said) = streamed(scratch.path(), |report| {
        if report.content_bytes == READ_BYTES as u64 && !std::mem::replace(&mut grown, true) {
            let file = File::options().append(true).open(&path).unwrap();
            Write::write_all(&mut &file, &[2; READ_BYTES]).unwrap();
        }
    });
    let size = 2 * READ_BYTES;
    let warning =
        format!("{} grew while it was read: the archive has its first {size} bytes", shown(&path));
    assert_eq!((report.warnings, said), (1, vec![warning]));
    let expected = [
        (String::new(), Vec::new()),
        ("log".to_owned(), vec![1; size]),
        ("next".to_owned(), b"n".to_vec()),
    ];
    assert!(members(scratch.path(), &tar) == expected);
}

#[test]
fn a_file_that_shrinks_is_filled_up_with_zeros() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("data");
    fs::write(&path, vec![1; 4 * READ_BYTES]).unwrap();
    fs::write(scratch.path().join("next"), b"n").unwrap();
    let mut shrunk = false;
    let (report, tar, said) = streamed(scratch.path(), |report| {
        if report.content_bytes == READ_BYTES as u64 && !std::mem::replace(&mut shrunk, true) {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(READ_BYTES as u64 + 10)
                .unwrap();
        }
    });
    let missing = 3 * READ_BYTES - 10;
    let warning = format!(
        "{} shrank while it was read: the archive has zeros in place of {missing} bytes",
        shown(&path)
    );
    assert_eq!((report.warnings, said), (1, vec![warning]));
    let content = [vec![1; READ_BYTES + 10], vec![0; missing]].concat();
    let expected = [
        (String::new(), Vec::new()),
        ("data".to_owned(), content),
        ("next".to_owned(), b"n".to_vec()),
    ];
    assert!(members(scratch.path(), &tar) == expected);
}

#[test]
fn a_file_that_is_rewritten_while_read_is_flagged() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("data");
    fs::write(&path, vec![1; 2 * READ_BYTES]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let (_, _, said) = streamed(scratch.path(), |report| {
        if report.content_bytes == READ_BYTES as u64 {
            file.write_all_at(&[2; 10], 0).unwrap();
        }
    });
    let warning = format!(
        "{} changed while it was read: the archive may have a mixture of old and new content",
        shown(&path)
    );
    assert_eq!(said, [warning]);
}

#[test]
fn a_file_that_vanishes_before_it_is_read_is_a_warning() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(scratch.path().join(name), name).unwrap();
    }
    let vanishing = shown(&scratch.path().join("b"));
    let (report, tar, said) = streamed(scratch.path(), |report| {
        if report.entries == 2 && Path::new(&vanishing).exists() {
            fs::remove_file(&vanishing).unwrap();
        }
    });
    assert_eq!(said, [format!("{vanishing} disappeared before it was read")]);
    assert_eq!((report.entries, report.warnings), (3, 1));
    let names: Vec<_> = members(scratch.path(), &tar).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "a", "c"]);
}

#[test]
fn the_second_name_of_a_file_whose_first_vanished_is_archived_in_full() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("0"), b"").unwrap();
    fs::write(scratch.path().join("a"), b"content").unwrap();
    fs::hard_link(scratch.path().join("a"), scratch.path().join("b")).unwrap();
    let first = scratch.path().join("a");
    let (_, tar, _) = streamed(scratch.path(), |report| {
        if report.entries == 2 && first.exists() {
            fs::remove_file(&first).unwrap();
        }
    });
    let expected = [("", ""), ("0", ""), ("b", "content")]
        .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()));
    assert_eq!(members(scratch.path(), &tar), expected);
}

#[test]
fn a_sink_that_fails_ends_the_work_with_its_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..1_u32 << 20)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    fs::write(scratch.path().join("noise"), noise).unwrap();
    let roots = [SourceRoot::open(scratch.path()).unwrap()];
    let mut space = vec![0; 1000];
    let error = stream(&roots, &options(), space.as_mut_slice(), |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
}

#[test]
fn an_observer_can_break_off() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = [SourceRoot::open(scratch.path()).unwrap()];
    let outcome = stream(&roots, &options(), Vec::new(), |_| ControlFlow::Break(()));
    assert!(matches!(outcome, Err(StreamError::Interrupted)));
}

#[test]
fn fast_levels_and_any_number_of_threads_give_an_archive() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = [SourceRoot::open(scratch.path()).unwrap()];
    for (level, threads) in [(-7, 0), (1, 1), (3, u32::MAX)] {
        let options = StreamOptions { level, threads, ..options() };
        let (report, archive) =
            stream(&roots, &options, Vec::new(), |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.entries, 1);
        assert!(zstd::decode_all(archive.as_slice()).unwrap().len() >= 10_240);
    }
}

#[test]
fn the_archive_itself_is_left_out() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("data"), "data").unwrap();
    let archive = temp.path().join("archive");
    fs::write(&archive, "old").unwrap();
    let found = fs::metadata(&archive).unwrap();
    let mut options = options();
    options.walk.skip = vec![(found.dev(), found.ino())];
    let roots = [SourceRoot::open(temp.path()).unwrap()];
    let observe = |_| ControlFlow::Continue(());
    let (_, tar) = stream(&roots, &options, Vec::new(), observe).unwrap();
    let names = members(temp.path(), &zstd::decode_all(tar.as_slice()).unwrap());
    assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["", "data"]);
}
