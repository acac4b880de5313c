use std::collections::HashSet;

use super::*;
use crate::entry::FileContent;
use crate::index::IndexedPack;
use crate::pack::{ChunkPlace, FramePlace, PackId, PackIndex, PackKind};

const TIME: Timestamp = Timestamp { seconds: 1_000_000_000, nanos: 5 };

fn id(number: u8) -> ChunkId {
    ChunkId([number; 16])
}

/// An index of the chunks 1 to 9, of which each has ten times its number as length.
fn index() -> Index {
    let chunks = (1..10_u8).map(|number| ChunkPlace {
        id: id(number),
        frame: 0,
        offset: 0,
        length: u32::from(number) * 10,
    });
    let frames = vec![FramePlace { start: 0, stored: 100, content: 1000 }];
    let pack = PackIndex { kind: PackKind::Data, frames, chunks: chunks.collect() };
    let indexed = IndexedPack { id: PackId(id(0)), bytes: 1000, index: pack, sealed_by: None };
    Index::new([indexed], &HashSet::new())
}

fn entry(path: &[u8], kind: Kind) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        uid: 7,
        gid: 8,
        mtime: Timestamp { seconds: -1, nanos: 999_999_999 },
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

fn file(path: &[u8], size: u64, extents: &[Extent]) -> Entry {
    let extents = extents.to_vec();
    entry(path, Kind::File(FileContent { size, extents, torn: false }))
}

fn table(index: &Index, entries: &[Entry]) -> Table {
    let mut builder = TableBuilder::new(index, TIME).unwrap();
    entries.iter().for_each(|entry| assert!(builder.add(entry).unwrap()));
    builder.finish().unwrap()
}

fn names<'a>(table: &'a Table, path: &[u8]) -> Vec<&'a [u8]> {
    table.children(table.at(path).unwrap()).iter().map(|child| table.name(*child)).collect()
}

#[test]
fn directories_above_the_sources_are_there_and_open_to_all() {
    let index = index();
    let table = table(
        &index,
        &[
            entry(b"srv/data", Kind::Directory),
            file(b"srv/data/a", 10, &[Extent::Chunk(id(1))]),
            entry(b"srv/data/b", Kind::Directory),
            file(b"srv/data/b/c", 0, &[]),
            file(b"srv/data/b.d", 0, &[]),
            entry(b"srv/web/x", Kind::Fifo),
            entry(b"var/lib/y", Kind::Socket),
        ],
    );
    assert_eq!(names(&table, b""), [&b"srv"[..], b"var"]);
    assert_eq!(names(&table, b"srv"), [&b"data"[..], b"web"]);
    assert_eq!(names(&table, b"srv/data"), [&b"a"[..], b"b", b"b.d"]);
    assert_eq!(names(&table, b"srv/data/b"), [&b"c"[..]]);
    assert_eq!(names(&table, b"srv/data/a"), Vec::<&[u8]>::new());
    assert_eq!(table.at(b"srv/data/b/c/d"), None);
    assert_eq!(table.at(b"srv/nothing"), None);
    let above = table.attributes(table.at(b"srv").unwrap()).unwrap();
    assert_eq!((above.tag, above.mode, above.uid, above.mtime), (Tag::Directory, 0o755, 0, TIME));
    let below = table.attributes(table.at(b"srv/data/b").unwrap()).unwrap();
    assert_eq!((below.mode, below.uid, below.gid), (0o644, 7, 8));
    assert_eq!(below.mtime, Timestamp { seconds: -1, nanos: 999_999_999 });
    let deep = table.at(b"srv/data/b/c").unwrap();
    assert_eq!(table.path(deep), b"srv/data/b/c");
    assert_eq!(table.path(ROOT), b"");
    assert_eq!(table.name(table.parent(deep)), b"b");
    assert_eq!(table.parent(ROOT), ROOT);
}

#[test]
fn a_root_that_was_saved_has_its_own_attributes() {
    let index = index();
    let saved = Entry { mode: 0o1700, ..entry(b"", Kind::Directory) };
    let table = table(&index, &[saved, file(b"a", 0, &[])]);
    let root = table.attributes(ROOT).unwrap();
    assert_eq!((root.mode, root.uid, root.node), (0o1700, 7, ROOT));
    assert_eq!(names(&table, b""), [&b"a"[..]]);
    assert_eq!(table.parent(table.at(b"a").unwrap()), ROOT);
}

#[test]
fn pieces_are_chunks_holes_and_what_no_index_knows() {
    let index = index();
    let extents = [
        Extent::Chunk(id(2)),
        Extent::Hole(4096),
        Extent::Chunk(id(77)),
        Extent::Chunk(id(9)),
        Extent::Hole(1),
    ];
    let table =
        table(&index, &[file(b"a", 4207, &extents), file(b"b", 10, &[Extent::Chunk(id(1))])]);
    let a = table.at(b"a").unwrap();
    let pieces: Vec<_> =
        (0..table.piece_count(a) + 1).map(|piece| table.piece(&index, a, piece)).collect();
    let wanted = [
        Some(Piece::Chunk(id(2), 20)),
        Some(Piece::Hole(4096)),
        Some(Piece::Absent(id(77))),
        Some(Piece::Chunk(id(9), 90)),
        Some(Piece::Hole(1)),
        None,
    ];
    assert_eq!(pieces, wanted);
    let attributes = table.attributes(a).unwrap();
    assert_eq!((attributes.size, attributes.data), (4207, 110));
    let b = table.at(b"b").unwrap();
    assert_eq!(table.piece_count(b), 1);
    assert_eq!(table.piece(&index, b, 0), Some(Piece::Chunk(id(1), 10)));
}

#[test]
fn names_of_one_file_are_one_file() {
    let index = index();
    let linked = |path: &[u8], first: &[u8]| Entry {
        hardlink_of: Some(first.to_vec()),
        ..file(path, 10, &[Extent::Chunk(id(1))])
    };
    let table = table(
        &index,
        &[
            file(b"a", 10, &[Extent::Chunk(id(1))]),
            linked(b"b", b"a"),
            linked(b"c", b"b"),
            linked(b"d", b"not-there"),
            Entry { hardlink_of: Some(b"a".to_vec()), ..entry(b"e", Kind::Fifo) },
        ],
    );
    let of = |path: &[u8]| table.attributes(table.at(path).unwrap()).unwrap();
    let a = of(b"a");
    assert_eq!(a.links, 3);
    assert_eq!(of(b"b"), a);
    assert_eq!(of(b"c"), a);
    assert_eq!((of(b"d").links, of(b"d").node == a.node), (1, false));
    assert_eq!((of(b"e").tag, of(b"e").links), (Tag::Fifo, 1), "another kind is another file");
}

#[test]
fn links_devices_and_attributes_are_as_they_were_saved() {
    let index = index();
    let xattr = Xattr { name: b"user.\xff".to_vec(), value: vec![0, 1] };
    let table = table(
        &index,
        &[
            entry(b"\xff\xfe", Kind::Symlink(b"../\xfd".to_vec())),
            Entry {
                xattrs: vec![xattr.clone()],
                ..entry(b"\xff\xff", Kind::BlockDevice(8, 1_000_000))
            },
        ],
    );
    let link = table.at(b"\xff\xfe").unwrap();
    assert_eq!(table.target(link), Some(&b"../\xfd"[..]));
    assert_eq!(table.attributes(link).unwrap().size, 4);
    assert!(table.xattrs(link).is_empty());
    let device = table.at(b"\xff\xff").unwrap();
    assert_eq!(table.target(device), None);
    assert_eq!(table.attributes(device).unwrap().device, (8, 1_000_000));
    assert_eq!(table.xattrs(device), [xattr]);
}

#[test]
fn a_name_that_no_file_system_takes_is_left_out_and_the_rest_is_shown() {
    let index = index();
    let mut builder = TableBuilder::new(&index, TIME).unwrap();
    let name = [b'n'; 256];
    assert!(builder.add(&file(&name[..255], 0, &[])).unwrap());
    assert!(!builder.add(&file(&name, 0, &[])).unwrap());
    assert!(!builder.add(&file(&[&name[..], b"/below"].concat(), 0, &[])).unwrap());
    assert!(builder.add(&file(b"o", 0, &[])).unwrap());
    assert_eq!(names(&builder.finish().unwrap(), b""), [&name[..255], b"o"]);
}

#[test]
fn a_crafted_path_makes_no_directories_without_end() {
    let index = index();
    let mut builder = TableBuilder::new(&index, TIME).unwrap();
    let deep = b"a/".repeat(MADE_UP_MAX / 2);
    assert!(builder.add(&file(&[&deep[..], b"z"].concat(), 0, &[])).unwrap());
    let other = [&b"b/"[..], &deep, &deep, b"z"].concat();
    assert!(matches!(builder.add(&file(&other, 0, &[])), Err(TableError::MadeUp)));
}

#[test]
fn an_entry_takes_few_bytes() {
    let index = index();
    let mut builder = TableBuilder::new(&index, TIME).unwrap();
    const FILES: u64 = 20_000;
    for number in 0..FILES {
        let path = format!("directory/{number:08}");
        builder.add(&file(path.as_bytes(), 10, &[Extent::Chunk(id(1))])).unwrap();
    }
    let table = builder.finish().unwrap();
    assert!(table.memory() < FILES * 64, "{} bytes for {FILES} files", table.memory());
}
