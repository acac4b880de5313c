use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::browse::tests::{Fixture, noise};

fn options(paths: Vec<PathBytes>) -> ExportOptions {
    ExportOptions { selection: Selection { paths, ..Selection::default() }, level: 1, threads: 2 }
}

fn exported(
    fixture: &Fixture,
    snapshot: &Snapshot,
    options: &ExportOptions,
) -> Result<(ExportReport, Vec<u8>), ExportError> {
    let (progress, shutdown) = (Progress::new(), Shutdown::new());
    export(&fixture.repository, snapshot, options, Vec::new(), &progress, &shutdown)
}

/// Unpacks with zstd and GNU tar and returns where the source is then.
fn unpacked(fixture: &Fixture, archive: &[u8], into: &str) -> PathBuf {
    let (file, target) = (fixture.path(&format!("{into}.tar.zst")), fixture.path(into));
    fs::write(&file, archive).unwrap();
    fs::create_dir(&target).unwrap();
    run("zstd -dc \"$1\" | tar -xpf - -C \"$2\"", &[&file, &target]);
    target.join(fixture.source().strip_prefix("/").unwrap())
}

fn run(script: &str, paths: &[&Path]) {
    let output = Command::new("sh").args(["-ec", script, "sh"]).args(paths).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn names(archive: &[u8]) -> Vec<(String, tar::EntryType)> {
    let tar = zstd::decode_all(archive).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    archive
        .entries()
        .unwrap()
        .map(|member| {
            let mut member = member.unwrap();
            std::io::copy(&mut member.by_ref(), &mut std::io::sink()).unwrap();
            let name = member.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            (name, member.header().entry_type())
        })
        .collect()
}

#[test]
fn gnu_tar_makes_the_source_again() {
    let fixture = Fixture::new();
    let source = fixture.source();
    for number in 0..300 {
        fixture.write(&format!("small/{number}"), noise(number * 7, number as u64));
    }
    fixture.write("large", noise(40 << 20, 1000));
    fixture.write("na\nme\x1b", "hostile");
    fs::create_dir(source.join("empty")).unwrap();
    fs::hard_link(source.join("large"), source.join("z-link")).unwrap();
    symlink("large", source.join("symlink")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(&noise(100_000, 5), 8 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let socket = UnixListener::bind(source.join("socket")).unwrap();
    // A second run with other packs, so that frames of both are needed in turn.
    fixture.back_up("n", 1);
    for number in (0..300).step_by(3) {
        fixture.write(&format!("small/{number}"), noise(number * 5, 5000 + number as u64));
    }
    let (_, snapshot) = fixture.back_up("n", 2);

    let (report, archive) = exported(&fixture, &snapshot, &options(Vec::new())).unwrap();
    assert_eq!((report.skipped, report.torn), (1, 0));
    assert_eq!(
        report.notes,
        [format!("{} was left out: it is a socket", source.join("socket").display())]
    );
    assert_eq!(report.entries + 1, snapshot.tree.entries);
    assert_eq!(report.stored_bytes, archive.len() as u64);
    assert!(report.content_bytes < 48 << 20, "{report:?}");
    let restored = unpacked(&fixture, &archive, "target");
    drop(socket);
    fs::remove_file(source.join("socket")).unwrap();
    run("diff -r --no-dereference \"$1\" \"$2\"", &[&source, &restored]);
    let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
    assert_eq!(inode("large"), inode("z-link"));
    assert!(fs::metadata(restored.join("sparse")).unwrap().blocks() < 2048);
    for name in ["small/6", "symlink", "empty"] {
        let time = |root: &Path| {
            let metadata = fs::symlink_metadata(root.join(name)).unwrap();
            (metadata.mtime(), metadata.mtime_nsec(), metadata.mode())
        };
        assert_eq!(time(&source), time(&restored), "{name}");
    }
}

#[test]
fn a_part_is_whole_even_without_the_first_name_of_a_file() {
    let fixture = Fixture::new();
    let content = noise(700_000, 6);
    fixture.write("a/first", &content);
    fs::create_dir(fixture.source().join("b")).unwrap();
    for name in ["b/second", "b/third"] {
        fs::hard_link(fixture.source().join("a/first"), fixture.source().join(name)).unwrap();
    }
    let (_, snapshot) = fixture.back_up("n", 1);
    let part = options(vec![fixture.entry_path("b")]);
    let (report, archive) = exported(&fixture, &snapshot, &part).unwrap();
    assert_eq!(report.entries, 3);
    let restored = unpacked(&fixture, &archive, "target");
    assert!(!restored.join("a").exists());
    assert!(fs::read(restored.join("b/second")).unwrap() == content);
    let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
    assert_eq!(inode("b/second"), inode("b/third"));

    let mut stripped = part.clone();
    stripped.selection.strip = Some(fixture.entry_path("b"));
    let (_, archive) = exported(&fixture, &snapshot, &stripped).unwrap();
    let target = fixture.path("stripped");
    unpacked(&fixture, &archive, "stripped");
    assert!(fs::read(target.join("third")).unwrap() == content);

    let error = exported(&fixture, &snapshot, &options(vec![b"gone".to_vec()])).unwrap_err();
    assert!(error.to_string().contains("nothing at /gone"), "{error}");
}

#[test]
fn damage_ends_the_archive_and_names_the_file() {
    let fixture = Fixture::new();
    fixture.write("a-sound\x1b", "");
    fixture.write("b-damaged", noise(3 << 20, 7));
    let (_, snapshot) = fixture.back_up("n", 1);
    fixture.damage_content();
    let error = exported(&fixture, &snapshot, &options(Vec::new())).unwrap_err();
    let ExportError::Content { path, .. } = &error else { panic!("{error:?}") };
    assert!(path.ends_with("/b-damaged"), "{error}");
    assert!(chores_common::exit::chain(&error).contains("packs/"), "{error}");
    // What is sound can still be had.
    let part = options(vec![fixture.entry_path("a-sound\x1b")]);
    let (_, archive) = exported(&fixture, &snapshot, &part).unwrap();
    assert_eq!(names(&archive), [("a-sound\x1b".to_owned(), tar::EntryType::Regular)]);

    fs::remove_dir_all(fixture.path("repo/packs")).unwrap();
    let error = exported(&fixture, &snapshot, &options(Vec::new())).unwrap_err();
    assert!(matches!(error, ExportError::Tree(_)), "{error:?}");
}

#[test]
fn a_chunk_that_is_nowhere_is_named_with_its_file() {
    let fixture = Fixture::new();
    fixture.write("file", noise(1 << 20, 8));
    let (_, snapshot) = fixture.back_up("n", 1);
    let (index, _) = fixture.repository.index_for_writing().unwrap();
    let data = index.packs().iter().find(|pack| pack.kind == crate::pack::PackKind::Data).unwrap();
    fs::remove_file(fixture.path("repo").join(data.id.key())).unwrap();
    let error = exported(&fixture, &snapshot, &options(Vec::new())).unwrap_err();
    assert!(
        matches!(&error, ExportError::Content { path, .. } if path.ends_with("/file")),
        "{error:?}"
    );
    fs::remove_dir_all(fixture.path("repo/index")).unwrap();
    let error = exported(&fixture, &snapshot, &options(Vec::new())).unwrap_err();
    assert!(
        matches!(&error, ExportError::Content { path, .. } if path.ends_with("/file")),
        "{error:?}"
    );
}

#[test]
fn an_interrupted_export_is_an_error() {
    let fixture = Fixture::new();
    fixture.write("file", noise(4 << 20, 9));
    let (_, snapshot) = fixture.back_up("n", 1);
    let shutdown = Shutdown::new();
    shutdown.request();
    let all = options(Vec::new());
    let outcome =
        export(&fixture.repository, &snapshot, &all, Vec::new(), &Progress::new(), &shutdown);
    assert!(matches!(outcome, Err(ExportError::Interrupted)));
}

#[test]
fn a_sink_that_is_full_is_an_error() {
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(std::io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let fixture = Fixture::new();
    fixture.write("file", noise(4 << 20, 10));
    let (_, snapshot) = fixture.back_up("n", 1);
    let all = options(Vec::new());
    for room in [0, 2 << 20, 4 << 20] {
        let sink = Full(room);
        let outcome =
            export(&fixture.repository, &snapshot, &all, sink, &Progress::new(), &Shutdown::new());
        assert!(outcome.is_err(), "{room}");
    }
}

fn chunk_lists() -> (Index, crate::chunk::ChunkId, u64) {
    let fixture = Fixture::new();
    fixture.write("file", "12345");
    fixture.back_up("n", 1);
    let (index, _) = fixture.repository.index_for_writing().unwrap();
    let data = |place: &crate::index::Place| {
        index.pack(place.pack).unwrap().kind == crate::pack::PackKind::Data
    };
    let (id, place) = *index.chunks().iter().find(|(_, place)| data(place)).unwrap();
    (index, id, u64::from(place.length))
}

#[test]
fn data_ranges_follow_the_content_and_must_add_up() {
    let (index, id, length) = chunk_lists();
    let ranges = |size, extents: &[Extent]| {
        let content = FileContent { size, extents: extents.to_vec(), torn: false };
        data_ranges(&content, &index).ok()
    };
    let (chunk, hole) = (Extent::Chunk(id), Extent::Hole(100));
    assert_eq!(ranges(0, &[]), Some(vec![]));
    assert_eq!(ranges(2 * length, &[chunk, chunk]), Some(vec![(0, 2 * length)]));
    assert_eq!(
        ranges(200 + 2 * length, &[hole, chunk, hole, chunk]),
        Some(vec![(100, length), (200 + length, length)])
    );
    assert_eq!(ranges(length, &[chunk, hole]), None);
    assert_eq!(ranges(length + 1, &[chunk]), None);
    assert_eq!(ranges(u64::MAX, &[Extent::Hole(u64::MAX), chunk]), None);
    assert_eq!(ranges(length, &[Extent::Chunk(crate::chunk::ChunkId([9; 16]))]), None);
}
