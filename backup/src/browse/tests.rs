use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use chores_common::object::{Location, ObjectStore, S3Settings};
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use serde_json::{Value, json};

use super::*;
use crate::create::{CreateOptions, create};
use crate::exclude::Exclude;
use crate::snapshot::{SnapshotName, Source};
use crate::store::Store;
use crate::walk::{SourceRoot, WalkOptions};

/// A repository and a source tree in a directory of their own.
pub(crate) struct Fixture {
    scratch: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    pub(crate) repository: Repository,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        fs::create_dir(scratch.path().join("repo")).unwrap();
        let location = Location::Directory(scratch.path().join("repo"));
        let objects = ObjectStore::open(&location, &S3Settings::default()).unwrap();
        let store = Store::new(objects, runtime.handle().clone(), Shutdown::new());
        let repository = Repository::init(store, jiff::Timestamp::UNIX_EPOCH).unwrap();
        fs::create_dir(scratch.path().join("source")).unwrap();
        Self { scratch, _runtime: runtime, repository }
    }

    /// The same repository as another process has it.
    pub(crate) fn reopened(&self) -> Repository {
        Repository::open(self.repository.store().clone()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// A path below the source as entries have it.
    pub(crate) fn entry_path(&self, name: &str) -> Vec<u8> {
        let path = self.source().join(name);
        path.as_os_str().as_bytes().strip_prefix(b"/").unwrap().to_vec()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn back_up(&self, name: &str, seconds: i64) -> (SnapshotName, Snapshot) {
        self.back_up_roots(name, seconds, &[self.source()])
    }

    pub(crate) fn back_up_roots(
        &self,
        name: &str,
        seconds: i64,
        roots: &[PathBuf],
    ) -> (SnapshotName, Snapshot) {
        let source = |root: &PathBuf| Source { path: root.display().to_string(), volume: None };
        let options = CreateOptions {
            name: name.to_owned(),
            tags: BTreeMap::from([("tier".to_owned(), name.to_owned())]),
            host: "test".to_owned(),
            time: jiff::Timestamp::from_second(seconds).unwrap(),
            roots: roots.iter().map(|root| SourceRoot::open(root).unwrap()).collect(),
            sources: roots.iter().map(source).collect(),
            container: None,
            provenance: crate::snapshot::Provenance::default(),
            dumps: Vec::new(),
            walk: WalkOptions {
                exclude: Exclude::default(),
                one_file_system: false,
                skip: Vec::new(),
                threads: 0,
            },
            level: 3,
            threads: 2,
            uploads: 1,
            cache: None,
            read_all: false,
            allow_change: false,
            dry_run: false,
            warnings: Vec::new(),
        };
        let report =
            create(&self.repository, &options, &Progress::new(), &Shutdown::new()).unwrap();
        (report.name.unwrap(), report.snapshot)
    }

    /// Overwrites a byte in the middle of the first frame of every content pack.
    pub(crate) fn damage_content(&self) {
        let (index, _) = self.repository.index_for_writing().unwrap();
        let data = index.packs().iter().filter(|pack| pack.kind == crate::pack::PackKind::Data);
        for pack in data {
            let path = self.path("repo").join(pack.id.key());
            let file = fs::File::options().write(true).read(true).open(path).unwrap();
            let at = u64::from(pack.frames[0].start + pack.frames[0].stored / 2);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
        }
    }
}

/// Bytes that do not compress and have no repetition.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; length];
    reader.fill(&mut bytes);
    bytes
}

fn told(work: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    work(&mut out);
    String::from_utf8(out).unwrap()
}

fn lines_of(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn listed(
    fixture: &Fixture,
    snapshot: &Snapshot,
    paths: &[Vec<u8>],
    recursive: bool,
) -> Vec<String> {
    let options = ListOptions { paths: paths.to_vec(), recursive, json: true };
    let out = told(|out| ls(&fixture.repository, snapshot, &options, out).unwrap());
    let source = fixture.source().display().to_string();
    lines_of(&out)
        .iter()
        .map(|line| line["path"].as_str().unwrap().strip_prefix(&source).unwrap().to_owned())
        .collect()
}

#[test]
fn a_listing_shows_one_level_or_all() {
    let fixture = Fixture::new();
    fixture.write("a/b/c", "c");
    fixture.write("a/d", "d");
    fixture.write("a-b", "e");
    let (_, snapshot) = fixture.back_up("n", 1);
    let shown = |paths: &[&str], recursive| {
        let paths: Vec<_> = paths.iter().map(|path| fixture.entry_path(path)).collect();
        listed(&fixture, &snapshot, &paths, recursive)
    };
    assert_eq!(shown(&[], false), ["", "/a", "/a-b"]);
    assert_eq!(shown(&[], true), ["", "/a", "/a/b", "/a/b/c", "/a/d", "/a-b"]);
    assert_eq!(shown(&["a"], false), ["/a", "/a/b", "/a/d"]);
    assert_eq!(shown(&["a"], true), ["/a", "/a/b", "/a/b/c", "/a/d"]);
    assert_eq!(shown(&["a/d", "a-b"], false), ["/a/d", "/a-b"]);
    // What is above a source leads to it.
    let above = fixture.path("").as_os_str().as_bytes()[1..].to_vec();
    let above = above.strip_suffix(b"/").unwrap().to_vec();
    assert_eq!(listed(&fixture, &snapshot, &[above], false), ["", "/a", "/a-b"]);
}

#[test]
fn a_path_that_is_not_there_fails_behind_those_that_are() {
    let fixture = Fixture::new();
    fixture.write("here", "x");
    let (_, snapshot) = fixture.back_up("n", 1);
    let paths = vec![fixture.entry_path("here"), fixture.entry_path("gone")];
    let options = ListOptions { paths, ..ListOptions::default() };
    let mut out = Vec::new();
    let error = ls(&fixture.repository, &snapshot, &options, &mut out).unwrap_err();
    assert!(
        error.to_string().contains("/gone") && !error.to_string().contains("/here,"),
        "{error}"
    );
    assert!(String::from_utf8(out).unwrap().contains("/here"));
}

#[test]
fn a_listing_needs_no_content_and_cannot_drive_a_terminal() {
    let fixture = Fixture::new();
    let source = fixture.source();
    fs::write(source.join("\x1b]0;owned\x07\nroot"), "x").unwrap();
    fs::write(source.join(OsStr::from_bytes(b"latin-\xe9")), "x").unwrap();
    symlink("\x1b[31m", source.join("link")).unwrap();
    fixture.write("first", "12345");
    fs::hard_link(source.join("first"), source.join("second")).unwrap();
    let (_, snapshot) = fixture.back_up("n", 1);
    fixture.damage_content();
    let text =
        told(|out| ls(&fixture.repository, &snapshot, &ListOptions::default(), out).unwrap());
    assert!(text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{text:?}");
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("/\\x1b]0;owned\\x07\\nroot\n"), "{text}");
    assert!(text.contains("/latin-\\xe9\n"), "{text}");
    assert!(text.contains("/link -> \\x1b[31m\n"), "{text}");
    let first = fixture.source().join("first");
    assert!(text.contains(&format!("/second = {}\n", first.display())), "{text}");
    let line = text.lines().find(|line| line.ends_with("/first")).unwrap();
    assert!(line.starts_with("-rw-r--r-- 0:0") && line.contains("     5 20"), "{line}");

    let options = ListOptions { json: true, ..ListOptions::default() };
    let json = lines_of(&told(|out| ls(&fixture.repository, &snapshot, &options, out).unwrap()));
    let coded = json.iter().find(|line| line.get("path").is_none()).unwrap();
    use base64::Engine as _;
    let path =
        base64::engine::general_purpose::STANDARD.decode(coded["path_b64"].as_str().unwrap());
    assert_eq!(path.unwrap(), [b"/", fixture.entry_path("").as_slice(), b"latin-\xe9"].concat());
    let link = json.iter().find(|line| line["type"] == "symlink").unwrap();
    assert_eq!(link["target"], "\x1b[31m");
}

fn read(
    fixture: &Fixture,
    snapshot: &Snapshot,
    name: &str,
) -> (Vec<u8>, Result<CatReport, BrowseError>) {
    let mut out = Vec::new();
    let path = fixture.entry_path(name);
    let outcome = cat(&fixture.repository, snapshot, &path, &mut out, &Shutdown::new());
    (out, outcome)
}

#[test]
fn a_file_is_read_with_its_holes_under_each_of_its_names() {
    let fixture = Fixture::new();
    let large = noise(5 << 20, 1);
    fixture.write("large", &large);
    fixture.write("empty", "");
    fs::hard_link(fixture.source().join("large"), fixture.source().join("other")).unwrap();
    let sparse = fs::File::create(fixture.source().join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
    sparse.set_len(2 << 20).unwrap();
    let (_, snapshot) = fixture.back_up("n", 1);
    for name in ["large", "other"] {
        let (content, outcome) = read(&fixture, &snapshot, name);
        assert!(content == large, "{name}");
        assert_eq!(outcome.unwrap(), CatReport { bytes: 5 << 20, torn: false });
    }
    assert_eq!(read(&fixture, &snapshot, "empty").0, b"");
    let mut wanted = vec![0; 2 << 20];
    wanted[1 << 20..(1 << 20) + 6].copy_from_slice(b"middle");
    let (content, outcome) = read(&fixture, &snapshot, "sparse");
    assert!(content == wanted && outcome.is_ok());
}

#[test]
fn only_files_have_content() {
    let fixture = Fixture::new();
    fixture.write("dir/file", "x");
    symlink("dir/file", fixture.source().join("link")).unwrap();
    let (_, snapshot) = fixture.back_up("n", 1);
    let problem = |name: &str| read(&fixture, &snapshot, name).1.unwrap_err().to_string();
    assert!(
        problem("dir")
            .ends_with("/dir is a dir: only files have content, `backup ls` lists a directory")
    );
    assert!(problem("link").contains("is a symlink"));
    assert!(problem("gone").contains("nothing at"), "{}", problem("gone"));
    assert!(problem("dir/file/below").contains("nothing at"));
}

#[test]
fn what_is_sound_is_read_before_the_damage_is_told() {
    let fixture = Fixture::new();
    let large = noise(6 << 20, 2);
    fixture.write("large", &large);
    let (_, snapshot) = fixture.back_up("n", 1);
    // Chunks of the later frames vanish with the byte that is flipped in the last frame of each pack.
    let (index, _) = fixture.repository.index_for_writing().unwrap();
    let first = fixture.repository.cutter().next_cut(&large, true).unwrap();
    let first = index.find(&fixture.repository.key().id_of(&large[..first])).unwrap().pack;
    let is_content = |pack: &crate::index::KnownPack| pack.kind == crate::pack::PackKind::Data;
    let mut packs = index.numbered_packs().filter(|(number, _)| *number != first);
    let pack = packs.find(|(_, pack)| is_content(pack)).unwrap().1;
    let frame = pack.frames[pack.frames.len() - 1];
    let path = fixture.path("repo").join(pack.id.key());
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55; 64], u64::from(frame.start + frame.stored / 2)).unwrap();
    let (content, outcome) = read(&fixture, &snapshot, "large");
    let error = outcome.unwrap_err();
    let BrowseError::Content { offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*offset, content.len() as u64);
    assert!(!content.is_empty() && content.len() < large.len());
    assert!(large.starts_with(&content));
    assert!(chores_common::exit::chain(&error).contains(&pack.id.key()), "{error}");
}

#[test]
fn snapshots_are_listed_oldest_first_and_chosen_by_name_and_label() {
    let fixture = Fixture::new();
    fixture.write("file", "12345");
    let (second, _) = fixture.back_up("web\x1b[0m", 200);
    let (first, _) = fixture.back_up("db", 100);
    let text = told(|out| {
        let report = snapshots(&fixture.repository, &SnapshotsOptions::default(), out).unwrap();
        assert_eq!(report, SnapshotsReport { listed: 2, damaged: 0 });
    });
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[0].starts_with("ID        TIME"), "{text}");
    assert!(
        rows[1].starts_with(&format!("{}  1970-01-01T00:01:40Z  db ", first.id.short())),
        "{text}"
    );
    assert!(rows[1].contains("complete") && rows[1].ends_with("/source"), "{text}");
    assert!(rows[2].contains("web\\x1b[0m"), "{text}");

    let json = |name: Option<&str>, tag: Option<&str>| -> Value {
        let tags = tag.map(|tag| ("tier".to_owned(), tag.to_owned())).into_iter().collect();
        let options = SnapshotsOptions { name: name.map(str::to_owned), tags, json: true };
        let text = told(|out| {
            snapshots(&fixture.repository, &options, out).unwrap();
        });
        serde_json::from_str(&text).unwrap()
    };
    let all = json(None, None);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[1]["id"], second.id.to_string());
    assert_eq!(all[0]["state"], "complete");
    assert_eq!(all[0]["time"], "1970-01-01T00:01:40Z");
    assert_eq!(all[0]["stats"]["bytes"], 5);
    assert_eq!(all[0]["paths"], json!([fixture.source().display().to_string()]));
    assert_eq!(json(Some("db"), None)[0]["id"], first.id.to_string());
    assert_eq!(json(None, Some("db")).as_array().unwrap().len(), 1);
    assert_eq!(json(Some("nobody"), None), json!([]));
}

#[test]
fn an_empty_repository_has_an_empty_list() {
    let fixture = Fixture::new();
    let show = |json| {
        told(|out| {
            let options = SnapshotsOptions { json, ..SnapshotsOptions::default() };
            snapshots(&fixture.repository, &options, out).unwrap();
        })
    };
    assert_eq!((show(false).as_str(), show(true).as_str()), ("", "[]\n"));
    let text = told(|out| assert!(!stats(&fixture.repository, false, out).unwrap().has_damage()));
    assert!(text.starts_with("snapshots    0"), "{text}");
}

#[test]
fn a_damaged_snapshot_is_in_the_list_whatever_was_asked_for() {
    let fixture = Fixture::new();
    fixture.write("file", "x");
    let (name, _) = fixture.back_up("n", 100);
    fixture.back_up("n", 200);
    fs::write(fixture.path("repo").join(name.key()), "{}").unwrap();
    for json in [false, true] {
        let options =
            SnapshotsOptions { name: Some("n".to_owned()), json, ..SnapshotsOptions::default() };
        let text = told(|out| {
            let report = snapshots(&fixture.repository, &options, out).unwrap();
            assert_eq!(report, SnapshotsReport { listed: 1, damaged: 1 });
        });
        assert!(text.contains("damaged") && text.contains("1970-01-01T00:01:40Z"), "{text}");
    }
    let stats = gathered(&fixture);
    assert_eq!((stats.snapshots, stats.snapshots_damaged), (1, 1));
    assert!(stats.has_damage());
}

fn found(fixture: &Fixture, patterns: &[&str], name: Option<&str>) -> (FindReport, Vec<Value>) {
    let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let options =
        FindOptions { patterns, name: name.map(str::to_owned), json: true, snapshot: None };
    let mut report = FindReport::default();
    let text = told(|out| report = find(&fixture.repository, &options, out).unwrap());
    (report, lines_of(&text))
}

#[test]
fn a_path_is_found_in_all_its_versions_newest_first() {
    let fixture = Fixture::new();
    fixture.write("dir/app.conf", "one");
    fixture.write("dir/other", "x");
    let (first, _) = fixture.back_up("n", 100);
    fixture.back_up("n", 200);
    fixture.write("dir/app.conf", "longer");
    let (third, _) = fixture.back_up("n", 300);
    fs::remove_file(fixture.source().join("dir/app.conf")).unwrap();
    fixture.back_up("n", 400);
    let (report, versions) = found(&fixture, &["*.conf"], None);
    assert_eq!(report, FindReport { paths: 1, versions: 2, snapshots: 4, damaged: 0 });
    assert_eq!(versions[0]["size"], 6);
    assert_eq!(versions[0]["newest"]["id"], third.id.to_string());
    assert_eq!((&versions[1]["size"], &versions[1]["snapshots"]), (&json!(3), &json!(2)));
    assert_eq!(versions[1]["oldest"]["id"], first.id.to_string());
    assert_eq!(versions[1]["newest"]["time"], "1970-01-01T00:03:20Z");
    let options = FindOptions { patterns: vec!["app.conf".to_owned()], ..FindOptions::default() };
    let text = told(|out| {
        find(&fixture.repository, &options, out).unwrap();
    });
    assert!(text.lines().next().unwrap().ends_with("/dir/app.conf  (n)"), "{text}");
    assert!(text.contains(" and 1 more back to "), "{text}");
}

#[test]
fn a_path_that_was_gone_for_a_while_is_found_on_both_sides() {
    let fixture = Fixture::new();
    let path = fixture.source().join("file");
    let away = fixture.path("away");
    fixture.write("file", "same");
    let times = fs::metadata(fixture.source()).unwrap().modified().unwrap();
    let reset = || fs::File::open(fixture.source()).unwrap().set_modified(times).unwrap();
    let (first, snapshot) = fixture.back_up("n", 100);
    fs::rename(&path, &away).unwrap();
    fixture.back_up("n", 200);
    fs::rename(&away, &path).unwrap();
    reset();
    let (_, again) = fixture.back_up("n", 300);
    assert_eq!(snapshot.tree, again.tree);
    let (report, versions) = found(&fixture, &["file"], None);
    assert_eq!((report.versions, &versions[0]["snapshots"]), (1, &json!(2)));
    assert_eq!(versions[0]["oldest"]["id"], first.id.to_string());
}

#[test]
fn snapshots_of_other_names_are_told_apart_or_left_out() {
    let fixture = Fixture::new();
    fixture.write("file", "x");
    fixture.back_up("a", 100);
    fixture.back_up("b", 200);
    fixture.back_up("a", 300);
    let (report, versions) = found(&fixture, &["/**/source/fi?e"], None);
    assert_eq!((report.paths, versions.len()), (2, 2));
    assert_eq!((&versions[0]["name"], &versions[0]["snapshots"]), (&json!("a"), &json!(2)));
    assert_eq!(found(&fixture, &["file"], Some("b")).0.snapshots, 1);
    assert_eq!(found(&fixture, &["nothing"], None).1, Vec::<Value>::new());
    let options = FindOptions { patterns: vec!["a[".to_owned()], ..FindOptions::default() };
    let error = find(&fixture.repository, &options, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("the pattern 'a[' cannot be used"), "{error}");
}

fn differences(
    fixture: &Fixture,
    old: &Snapshot,
    new: &Snapshot,
) -> (DiffReport, Vec<String>, String) {
    let mut report = DiffReport::default();
    let text = told(|out| {
        report = diff(&fixture.repository, old, new, &DiffOptions::default(), out).unwrap();
    });
    let options = DiffOptions { json: true, ..DiffOptions::default() };
    let json = told(|out| {
        diff(&fixture.repository, old, new, &options, out).unwrap();
    });
    let source = fixture.source().display().to_string();
    let changes = lines_of(&json)
        .iter()
        .filter(|line| line.get("change").is_some())
        .map(|line| {
            let path = line["path"].as_str().unwrap().strip_prefix(&source).unwrap();
            format!("{} {path}", line["change"].as_str().unwrap())
        })
        .collect();
    let summary = lines_of(&json).pop().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["added"]["paths"], report.added.paths);
    (report, changes, text)
}

#[test]
fn every_kind_of_difference_is_told_in_tree_order() {
    use std::os::unix::fs::PermissionsExt as _;

    let fixture = Fixture::new();
    let source = fixture.source();
    fs::create_dir(source.join("d")).unwrap();
    for (name, content) in [
        ("d/modified", "one"),
        ("d/removed", "123"),
        ("d/mode", "x"),
        ("d/same", "s"),
        ("d.x", "t"),
    ] {
        fixture.write(name, content);
    }
    symlink("a", source.join("link")).unwrap();
    let (_, old) = fixture.back_up("n", 100);
    fixture.write("d/modified", "more than one");
    fs::remove_file(source.join("d/removed")).unwrap();
    fs::set_permissions(source.join("d/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(source.join("d.x")).unwrap();
    symlink("target", source.join("d.x")).unwrap();
    fs::remove_file(source.join("link")).unwrap();
    symlink("b", source.join("link")).unwrap();
    fixture.write("e\nvil/added", "12345");
    let (_, new) = fixture.back_up("n", 200);

    let (report, changes, text) = differences(&fixture, &old, &new);
    assert_eq!(
        changes,
        [
            "metadata ",
            "metadata /d",
            "metadata /d/mode",
            "modified /d/modified",
            "removed /d/removed",
            "type /d.x",
            "added /e\nvil",
            "added /e\nvil/added",
            "modified /link",
        ]
    );
    assert_eq!(report.added, Sum { paths: 2, bytes: 5 });
    assert_eq!(report.removed, Sum { paths: 1, bytes: 3 });
    assert_eq!(
        (report.modified, report.metadata, report.retyped),
        (Sum { paths: 2, bytes: 13 }, 3, 1)
    );
    assert!(text.contains("/d.x  file → symlink\n"), "{text}");
    assert!(text.contains("/d/mode  mode\n"), "{text}");
    assert!(text.contains("/e\\nvil/added  5"), "{text}");
    assert_eq!(text.lines().count(), 10, "{text}");

    // The other way round, what was added is removed.
    let (back, changes, _) = differences(&fixture, &new, &old);
    assert_eq!((back.added, back.removed), (report.removed, report.added));
    assert!(changes.contains(&"removed /e\nvil/added".to_owned()));
}

#[test]
fn a_diff_can_be_narrowed_and_equal_snapshots_have_none() {
    let fixture = Fixture::new();
    fixture.write("a/file", "1");
    fixture.write("b/file", "1");
    let (_, old) = fixture.back_up("n", 100);
    let (_, same) = fixture.back_up("n", 150);
    let (report, changes, text) = differences(&fixture, &old, &same);
    assert!(report.is_equal() && changes.is_empty());
    assert_eq!(text, "no differences\n");

    fixture.write("a/file", "22");
    fixture.write("b/file", "22");
    let (_, new) = fixture.back_up("n", 200);
    let narrowed = |name: &str| {
        let options =
            DiffOptions { paths: vec![fixture.entry_path(name)], ..DiffOptions::default() };
        diff(&fixture.repository, &old, &new, &options, &mut Vec::new())
    };
    assert_eq!(narrowed("a").unwrap().modified.paths, 1);
    assert!(narrowed("gone").unwrap_err().to_string().contains("/gone"));
}

fn gathered(fixture: &Fixture) -> RepositoryStats {
    let mut out = Vec::new();
    let stats = stats(&fixture.repository, true, &mut out).unwrap();
    let json: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["snapshots"], stats.snapshots);
    stats
}

#[test]
fn figures_add_up() {
    let fixture = Fixture::new();
    fixture.write("large", noise(3 << 20, 3));
    fixture.write("text", "same line\n".repeat(10_000));
    fixture.back_up("n", 100);
    fixture.back_up("n", 200);
    let stats = gathered(&fixture);
    assert_eq!((stats.snapshots, stats.orphan_packs, stats.missing_packs), (2, 0, 0));
    assert_eq!(stats.snapshot_bytes, 2 * ((3 << 20) + 100_000));
    // Beside the content, the few random bytes of each frame.
    let beside = stats.data.raw_bytes - ((3 << 20) + 100_000);
    assert!(beside > 0 && beside.is_multiple_of(crate::pack::SALT_BYTES as u64) && beside < 1000);
    let on_disk = |directory: &str| directory_bytes(&fixture.path("repo").join(directory));
    assert_eq!(stats.index_bytes, on_disk("index"));
    assert_eq!(stats.stored_bytes, on_disk("packs") + on_disk("index"));
    assert!(stats.dedup_ratio.unwrap() > 1.9, "{stats:?}");
    assert_eq!(stats.oldest.unwrap().as_second(), 100);
    assert_eq!(stats.newest.unwrap().as_second(), 200);

    // Without the index its packs are orphans; with it but without them they are missing.
    let index = fixture.path("repo/index");
    fs::rename(&index, fixture.path("index")).unwrap();
    let stats = gathered(&fixture);
    assert!(stats.orphan_packs > 0 && stats.orphan_bytes == on_disk("packs"), "{stats:?}");
    assert!(!stats.has_damage());
    fs::rename(fixture.path("index"), &index).unwrap();
    fs::remove_dir_all(fixture.path("repo/packs")).unwrap();
    let stats = gathered(&fixture);
    assert!(stats.missing_packs > 0 && stats.has_damage());
}

fn directory_bytes(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { directory_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[test]
fn a_reader_that_goes_away_is_recognised() {
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let fixture = Fixture::new();
    fixture.write("file", "x");
    let (_, snapshot) = fixture.back_up("n", 1);
    for json in [false, true] {
        let options = ListOptions { json, ..ListOptions::default() };
        let error = ls(&fixture.repository, &snapshot, &options, &mut Gone).unwrap_err();
        assert!(error.is_broken_pipe(), "{error:?}");
        let error = stats(&fixture.repository, json, &mut Gone).unwrap_err();
        assert!(error.is_broken_pipe(), "{error:?}");
    }
}
