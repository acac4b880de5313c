use std::collections::HashMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::chunk::DedupKey;
use crate::entry::{Extent, FileContent, Timestamp};

#[derive(Default)]
struct Pieces(HashMap<ChunkId, Vec<u8>>);

#[derive(Debug, thiserror::Error)]
#[error("no such piece")]
struct NoPiece;

impl PieceSink for Pieces {
    type Error = Infallible;

    fn piece(&mut self, content: &[u8]) -> Result<ChunkId, Infallible> {
        let id = DedupKey::from_hex(&"01".repeat(32)).unwrap().id_of(content);
        self.0.insert(id, content.to_vec());
        Ok(id)
    }
}

impl PieceSource for &Pieces {
    type Error = NoPiece;

    fn piece(&mut self, id: &ChunkId, into: &mut Vec<u8>) -> Result<(), NoPiece> {
        into.clone_from(self.0.get(id).ok_or(NoPiece)?);
        Ok(())
    }
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 1, nanos: 2 },
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

fn file(path: &str) -> Entry {
    let content = FileContent { size: 1, extents: vec![Extent::Hole(1)], torn: false };
    entry(path, Kind::File(content))
}

fn write(entries: &[Entry], pieces: &mut Pieces) -> TreeRoot {
    let mut tree = TreeWriter::default();
    for entry in entries {
        let mut lines = Vec::new();
        entry.write_lines(&mut lines, |_| ()).unwrap();
        tree.begin_entry();
        for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let key = if number == 0 { &entry.path } else { &line[..line.len().min(48)] };
            let Ok(()) = tree.line(line, key, pieces);
        }
    }
    let Ok(root) = tree.finish(pieces);
    root
}

fn read(root: &TreeRoot, pieces: &Pieces) -> Result<Vec<Entry>, TreeError<NoPiece>> {
    let mut reader = TreeReader::new(root, pieces);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn files(count: usize) -> Vec<Entry> {
    (0..count).map(|number| file(&format!("{number:06}"))).collect()
}

#[test]
fn trees_of_every_size_come_back() {
    for count in [0, 1, 2, 500, 10_000] {
        let mut pieces = Pieces::default();
        let entries = files(count);
        let root = write(&entries, &mut pieces);
        assert_eq!(root.entries, count as u64);
        assert_eq!(read(&root, &pieces).unwrap(), entries, "{count}");
    }
}

#[test]
fn an_entry_of_very_many_lines_comes_back() {
    let extents: Vec<_> = (0..200_000_u32)
        .map(|number| {
            let mut id = [0xff; 16];
            id[1..5].copy_from_slice(&number.to_le_bytes());
            Extent::Chunk(ChunkId(id))
        })
        .collect();
    let huge = entry("b", Kind::File(FileContent { size: 1 << 40, extents, torn: false }));
    let entries = [file("a"), huge, file("c")];
    let mut pieces = Pieces::default();
    let root = write(&entries, &mut pieces);
    assert!(root.depth >= 1);
    assert_eq!(read(&root, &pieces).unwrap(), entries);
}

#[test]
fn a_change_of_one_entry_changes_few_pieces() {
    let mut entries = files(10_000);
    let mut before = Pieces::default();
    write(&entries, &mut before);
    entries[5000].uid = 1000;
    entries[5000].mtime.seconds = 1_700_000_000;
    let mut after = Pieces::default();
    write(&entries, &mut after);
    let new = after.0.keys().filter(|id| !before.0.contains_key(id)).count();
    assert!(new <= 4, "{new} of {} pieces are new", after.0.len());
}

#[test]
fn crafted_trees_are_refused() {
    let link = |path: &str, first: &str| Entry { hardlink_of: Some(first.into()), ..file(path) };
    let symlink = entry("a", Kind::Symlink(b"/etc".to_vec()));
    for (why, entries) in [
        ("order", vec![file("b"), file("a")]),
        ("twice", vec![file("a"), file("a")]),
        ("below a link", vec![symlink, file("a/passwd")]),
        ("below a file", vec![file("a"), file("a/b")]),
        ("a link forward", vec![link("a", "b"), file("b")]),
        ("a link to itself", vec![link("a", "a")]),
        (
            "a linked directory",
            vec![
                file("a"),
                Entry { hardlink_of: Some(b"a".into()), ..entry("b", Kind::Directory) },
            ],
        ),
        ("climbing out", vec![file("a/../../b")]),
        ("absolute", vec![file("/a")]),
    ] {
        let mut pieces = Pieces::default();
        let root = write(&entries, &mut pieces);
        assert!(read(&root, &pieces).is_err(), "{why}");
    }
}

#[test]
fn a_root_that_lies_is_refused() {
    let mut pieces = Pieces::default();
    let root = write(&files(3000), &mut pieces);
    assert!(root.depth > 0);
    for lie in [
        TreeRoot { depth: 200, ..root.clone() },
        TreeRoot { depth: root.depth - 1, ..root.clone() },
        TreeRoot { depth: root.depth + 1, ..root.clone() },
        TreeRoot { entries: 2999, ..root.clone() },
        TreeRoot { entries: 3001, ..root.clone() },
        TreeRoot { entries: 0, ..root.clone() },
        TreeRoot { root: ChunkId([0; 16]), ..root.clone() },
    ] {
        assert!(read(&lie, &pieces).is_err(), "{lie:?}");
    }
}

#[test]
fn a_list_of_empty_pieces_ends_at_the_first() {
    let mut pieces = Pieces::default();
    let Ok(mut id) = pieces.piece(b"");
    for _ in 0..DEPTH_MAX {
        let Ok(list) = pieces.piece(format!("{id}\n").repeat(1000).as_bytes());
        id = list;
    }
    assert!(read(&TreeRoot { root: id, depth: DEPTH_MAX, entries: 0 }, &pieces).is_err());
}

#[test]
fn nothing_follows_an_error() {
    let mut pieces = Pieces::default();
    let root = write(&[file("b"), file("a"), file("c")], &mut pieces);
    let mut reader = TreeReader::new(&root, &pieces);
    while let Ok(entry) = reader.next_entry() {
        assert!(entry.is_some());
    }
    assert!(reader.next_entry().unwrap().is_none());
}

proptest! {
    #[test]
    fn mutated_pieces_never_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        which in any::<prop::sample::Index>(),
    ) {
        let mut pieces = Pieces::default();
        let root = write(&files(600), &mut pieces);
        let mut ids: Vec<_> = pieces.0.keys().copied().collect();
        ids.sort_unstable();
        let piece = pieces.0.get_mut(&ids[which.index(ids.len())]).unwrap();
        let at = at.index(piece.len());
        piece[at] = byte;
        drop(parse_ids(piece));
        drop(read(&root, &pieces));
    }
}
