use std::io::Read as _;

use tar::{Archive, EntryType, Header};

use super::*;
use crate::chunk::ChunkId;
use crate::entry::{FileContent, Timestamp, Xattr};

mod oracles;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o640,
        uid: 1000,
        gid: 100,
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 0 },
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File(FileContent { size, ..FileContent::default() }))
}

fn whole(size: u64) -> Vec<(u64, u64)> {
    if size == 0 { Vec::new() } else { vec![(0, size)] }
}

fn add(writer: &mut TarWriter<Vec<u8>>, entry: &Entry, data: &[(u64, u64)], body: &[u8]) {
    assert_eq!(writer.begin(entry, data).unwrap(), Outcome::Written);
    writer.write_body(body).unwrap();
    writer.end_entry().unwrap();
}

fn archive_of(entry: &Entry, body: &[u8]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    add(&mut writer, entry, &whole(body.len() as u64), body);
    writer.finish().unwrap()
}

/// The records of the extended header that starts the archive.
fn records_of(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let header = Header::from_byte_slice(&archive[..BLOCK_BYTES]);
    if header.entry_type() != EntryType::XHeader {
        return Vec::new();
    }
    let mut rest = &archive[BLOCK_BYTES..BLOCK_BYTES + header.size().unwrap() as usize];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
        let (record, after) = rest.split_at(length);
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        assert_eq!(record.last(), Some(&b'\n'));
        records.push((
            String::from_utf8(record[space + 1..equals].to_vec()).unwrap(),
            record[equals + 1..length - 1].to_vec(),
        ));
        rest = after;
    }
    records
}

#[test]
fn plain_entries_read_back_with_the_tar_crate() {
    let mut writer = TarWriter::new(Vec::new());
    add(&mut writer, &entry("etc", Kind::Directory), &[], &[]);
    add(&mut writer, &file("etc/passwd", 5), &[(0, 5)], b"hello");
    add(&mut writer, &entry("etc/link", Kind::Symlink(b"passwd".to_vec())), &[], &[]);
    let bytes = writer.finish().unwrap();

    let mut archive = Archive::new(bytes.as_slice());
    let read: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|member| {
            let mut member = member.unwrap();
            let mut body = String::new();
            member.read_to_string(&mut body).unwrap();
            let header = member.header();
            assert_eq!(header.mode().unwrap(), 0o640);
            assert_eq!(header.uid().unwrap(), 1000);
            assert_eq!(header.gid().unwrap(), 100);
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            let link = member.link_name_bytes().map(|name| name.to_vec());
            (member.path_bytes().to_vec(), header.entry_type(), link, body)
        })
        .collect();
    assert_eq!(
        read,
        [
            (b"etc/".to_vec(), EntryType::Directory, None, String::new()),
            (b"etc/passwd".to_vec(), EntryType::Regular, None, "hello".to_owned()),
            (b"etc/link".to_vec(), EntryType::Symlink, Some(b"passwd".to_vec()), String::new()),
        ]
    );
}

#[test]
fn an_ordinary_file_needs_no_extended_header() {
    let archive = archive_of(&file("a", 3), b"abc");
    assert_eq!(records_of(&archive), []);
    assert_eq!(archive.len() as u64, RECORD_BYTES);
}

#[test]
fn an_empty_archive_is_one_record_of_zeros() {
    let archive = TarWriter::new(Vec::new()).finish().unwrap();
    assert_eq!(archive, vec![0; RECORD_BYTES as usize]);
}

#[test]
fn what_fits_the_fields_exactly_needs_no_record_and_one_more_does() {
    let mut fits = file(&"p".repeat(100), 0);
    fits.uid = 2_097_151;
    fits.gid = 2_097_151;
    fits.mtime = Timestamp { seconds: 8_589_934_591, nanos: 0 };
    assert_eq!(records_of(&archive_of(&fits, b"")), []);

    let mut over = file(&"p".repeat(101), 0);
    over.uid = 2_097_152;
    over.gid = u32::MAX;
    over.mtime = Timestamp { seconds: 8_589_934_592, nanos: 0 };
    let expected = [
        ("gid".to_owned(), b"4294967295".to_vec()),
        ("mtime".to_owned(), b"8589934592".to_vec()),
        ("path".to_owned(), vec![b'p'; 101]),
        ("uid".to_owned(), b"2097152".to_vec()),
    ];
    assert_eq!(records_of(&archive_of(&over, b"")), expected);
}

#[test]
fn times_before_1970_and_fractions_are_records() {
    for (seconds, nanos, text) in [
        (-1, 0, "-1"),
        (-1, 999_999_999, "-0.000000001"),
        (-2, 500_000_000, "-1.5"),
        (1, 120_000_000, "1.12"),
        (i64::MIN, 0, "-9223372036854775808"),
    ] {
        let mut entry = file("a", 0);
        entry.mtime = Timestamp { seconds, nanos };
        let expected = [("mtime".to_owned(), text.as_bytes().to_vec())];
        assert_eq!(records_of(&archive_of(&entry, b"")), expected);
    }
}

#[test]
fn a_record_length_counts_its_own_digits() {
    // "x=" and newline with 95 bytes of value and "99 " would be 101 bytes: the digits carry over.
    for length in (80..110).chain(980..1010).chain(9_980..10_010) {
        let mut entry = file("a", 0);
        entry.xattrs = vec![Xattr { name: b"user.x".to_vec(), value: vec![b'\n'; length] }];
        let expected = [("SCHILY.xattr.user.x".to_owned(), vec![b'\n'; length])];
        assert_eq!(records_of(&archive_of(&entry, b"")), expected);
    }
}

#[test]
fn an_attribute_name_with_an_equals_sign_is_escaped() {
    let mut entry = file("a", 0);
    entry.xattrs = vec![Xattr { name: b"user.50%=half".to_vec(), value: b"v".to_vec() }];
    let expected = [("SCHILY.xattr.user.50%25%3Dhalf".to_owned(), b"v".to_vec())];
    assert_eq!(records_of(&archive_of(&entry, b"")), expected);
}

#[test]
fn an_acl_is_a_text_record_besides_the_attribute_and_a_damaged_one_only_an_attribute() {
    let name = b"system.posix_acl_access".to_vec();
    let mut entry = file("a", 0);
    entry.xattrs = vec![Xattr { name: name.clone(), value: oracles::acl() }];
    let records = records_of(&archive_of(&entry, b""));
    let text = b"user::rw-,user:1234:rw-:1234,group::r--,mask::rw-,other::---".to_vec();
    assert_eq!(
        records,
        [
            ("SCHILY.acl.access".to_owned(), text),
            ("SCHILY.xattr.system.posix_acl_access".to_owned(), oracles::acl()),
        ]
    );

    for damaged in [b"".to_vec(), oracles::acl()[..11].to_vec(), vec![0xff; 12]] {
        entry.xattrs = vec![Xattr { name: name.clone(), value: damaged.clone() }];
        let expected = [("SCHILY.xattr.system.posix_acl_access".to_owned(), damaged)];
        assert_eq!(records_of(&archive_of(&entry, b"")), expected);
    }
}

#[test]
fn equal_entries_give_equal_bytes() {
    let mut entry = file("\u{fc}", 1);
    entry.mtime.nanos = 1;
    entry.xattrs = ["user.b", "user.a"]
        .map(|name| Xattr { name: name.as_bytes().to_vec(), value: b"v".to_vec() })
        .to_vec();
    let first = archive_of(&entry, b"1");
    entry.xattrs.reverse();
    assert_eq!(first, archive_of(&entry, b"1"));
}

#[test]
fn a_socket_is_skipped_and_leaves_no_trace() {
    let mut writer = TarWriter::new(Vec::new());
    let outcome = writer.begin(&entry("run/sock", Kind::Socket), &[]).unwrap();
    assert_eq!(outcome, Outcome::Skipped(SkipReason::Socket));
    assert_eq!(writer.finish().unwrap(), vec![0; RECORD_BYTES as usize]);
}

#[test]
fn a_short_body_cannot_be_ended_before_it_is_filled_up() {
    let mut writer = TarWriter::new(Vec::new());
    assert_eq!(writer.begin(&file("a", 10), &[(0, 10)]).unwrap(), Outcome::Written);
    writer.write_body(b"1234").unwrap();
    let error = writer.end_entry().unwrap_err();
    assert_eq!(error.to_string(), "/a has less content than its size says: 6 bytes are missing");
    assert!(matches!(writer.begin(&file("b", 0), &[]), Err(TarError::NotEnded { .. })));
    assert_eq!(writer.missing(), 6);
    writer.write_body(&[0; 6]).unwrap();
    writer.end_entry().unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_long_body_is_refused_whole() {
    let mut writer = TarWriter::new(Vec::new());
    assert_eq!(writer.begin(&file("a", 4), &[(0, 4)]).unwrap(), Outcome::Written);
    assert!(matches!(writer.write_body(b"12345"), Err(TarError::LongBody { extra: 1, .. })));
    writer.write_body(b"1234").unwrap();
    assert!(matches!(writer.write_body(b"5"), Err(TarError::LongBody { extra: 1, .. })));
    writer.end_entry().unwrap();
    assert!(matches!(writer.write_body(b"5"), Err(TarError::NotBegun)));
    assert!(matches!(writer.end_entry(), Err(TarError::NotBegun)));
}

#[test]
fn an_archive_with_an_open_member_cannot_be_finished() {
    let mut writer = TarWriter::new(Vec::new());
    assert_eq!(writer.begin(&file("a", 0), &[]).unwrap(), Outcome::Written);
    assert!(matches!(writer.finish(), Err(TarError::NotEnded { .. })));
}

#[test]
fn data_ranges_that_contradict_the_file_are_refused_and_the_archive_goes_on() {
    let mut writer = TarWriter::new(Vec::new());
    for ranges in [
        [(0, 101)].as_slice(),
        &[(50, 10), (40, 5)],
        &[(0, 10), (5, 10)],
        &[(10, 0)],
        &[(u64::MAX, 2)],
    ] {
        assert!(matches!(writer.begin(&file("a", 100), ranges), Err(TarError::Ranges { .. })));
    }
    assert!(matches!(writer.begin(&file("a", u64::MAX), &[]), Err(TarError::Ranges { .. })));
    add(&mut writer, &file("a", 0), &[], &[]);
    writer.finish().unwrap();
}

#[test]
fn more_metadata_than_readers_accept_is_refused_and_the_archive_goes_on() {
    let mut writer = TarWriter::new(Vec::new());
    let mut large = file("a", 0);
    large.xattrs = vec![Xattr { name: b"user.x".to_vec(), value: vec![0; PAX_BYTES_MAX] }];
    assert!(matches!(writer.begin(&large, &[]), Err(TarError::MetadataTooLong { .. })));
    add(&mut writer, &file("a", 0), &[], &[]);
    writer.finish().unwrap();
}

#[test]
fn adjacent_ranges_without_a_hole_make_a_plain_file() {
    let mut writer = TarWriter::new(Vec::new());
    add(&mut writer, &file("a", 8), &[(0, 4), (4, 4)], b"12345678");
    assert_eq!(records_of(&writer.finish().unwrap()), []);
}

#[test]
fn a_sink_that_fails_breaks_the_archive_for_good() {
    let mut space = [0_u8; 600];
    let mut writer = TarWriter::new(space.as_mut_slice());
    assert_eq!(writer.begin(&file("a", 500), &[(0, 500)]).unwrap(), Outcome::Written);
    assert!(matches!(writer.write_body(&[1; 500]), Err(TarError::Write { .. })));
    assert!(matches!(writer.write_body(&[]), Err(TarError::Broken)));
    assert!(matches!(writer.end_entry(), Err(TarError::Broken)));
    assert!(matches!(writer.begin(&file("b", 0), &[]), Err(TarError::Broken)));
    assert!(matches!(writer.finish(), Err(TarError::Broken)));
}

#[test]
fn chunk_headers_equal_those_of_the_tar_crate() {
    let ids = [[0; 16], [0xff; 16], *b"0123456789abcdef", [0x9a; 16]];
    for (id, length) in ids.into_iter().zip([0, u32::MAX, 1, 262_144]) {
        let id = ChunkId(id);
        let mut expected = Header::new_ustar();
        expected.set_path(id.to_string()).unwrap();
        expected.set_entry_type(EntryType::Regular);
        expected.set_mode(0o644);
        expected.set_uid(0);
        expected.set_gid(0);
        expected.set_mtime(0);
        expected.set_size(length.into());
        expected.set_cksum();
        assert_eq!(&chunk_member_header(&id, length), expected.as_bytes(), "{id} {length}");
    }
}
