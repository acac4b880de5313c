use std::convert::Infallible;

use crc_fast::CrcAlgorithm;

use super::*;

/// What is proved, and what is passed on, with the bytes in pieces of this length.
fn checked(
    trailer: &Trailer,
    bytes: &[u8],
    piece: usize,
) -> (Result<Option<&'static str>, Flaw>, Vec<u8>) {
    let mut passed = Vec::new();
    let mut pass = |bytes: &[u8]| {
        passed.extend_from_slice(bytes);
        Ok::<_, Infallible>(())
    };
    let mut check = Check::new(trailer);
    for piece in bytes.chunks(piece) {
        check.push(piece, &mut pass).unwrap();
    }
    let proved = check.finish(&mut pass).unwrap();
    (proved, passed)
}

/// Whole, it is proved and passed on; cut anywhere, it is not, and still passed on.
fn holds(
    trailer: &Trailer,
    bytes: &[u8],
    proved: &'static str,
    is_cut_harmless: impl Fn(usize) -> bool,
) {
    for piece in [1, 2, 3, 7, 50, 1 << 20] {
        assert_eq!(checked(trailer, bytes, piece), (Ok(Some(proved)), bytes.to_vec()), "{piece}");
    }
    for length in 0..bytes.len() {
        let (found, passed) = checked(trailer, &bytes[..length], 11);
        assert_eq!(passed, &bytes[..length]);
        assert!(found.is_err() || is_cut_harmless(length), "cut at {length}: {found:?}");
    }
}

fn rdb(values: &[u8]) -> Vec<u8> {
    let mut bytes = [b"REDIS0009".as_slice(), values, &[0xff]].concat();
    let crc = crc_fast::checksum(CrcAlgorithm::Crc64Redis, &bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn the_checksum_is_that_of_the_server() {
    // The check value of `crc64.c` of Redis.
    assert_eq!(crc_fast::checksum(CrcAlgorithm::Crc64Redis, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    assert_eq!(crc_fast::checksum(CrcAlgorithm::Crc64Xz, b"123456789"), 0x995d_c9bb_df19_39fa);
}

#[test]
fn an_rdb_file_ends_with_its_checksum() {
    let values: Vec<u8> = (0..=255).cycle().take(700).collect();
    let whole = rdb(&values);
    holds(&Trailer::Rdb, &whole, "rdb-crc64", |_| false);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        assert!(checked(&Trailer::Rdb, &flipped, 64).0.is_err(), "{at}");
    }
}

#[test]
fn digits_behind_an_rdb_file_are_the_servers_and_taken_off() {
    let whole = rdb(b"values");
    let sent = [whole.as_slice(), &"0123456789abcdef".repeat(3).as_bytes()[..40]].concat();
    for piece in [1, 39, 40, 41, 4096] {
        assert_eq!(checked(&Trailer::Rdb, &sent, piece), (Ok(Some("rdb-crc64")), whole.clone()));
    }
    let unchecked = [b"REDIS0009values\xff".as_slice(), &[0; 8]].concat();
    assert_eq!(checked(&Trailer::Rdb, &unchecked, 5).0, Ok(Some("rdb-eof")));
    assert!(checked(&Trailer::Rdb, b"ERR operation not permitted", 5).0.is_err());
    let valkey = [b"VALKEY080values\xff".as_slice(), &[0; 8]].concat();
    assert_eq!(checked(&Trailer::Rdb, &valkey, 5).0, Ok(Some("rdb-eof")));
}

#[test]
fn sql_ends_with_its_comment() {
    let mysql = crate::database::trailer_of_stream(crate::snapshot::DumpKind::Mysql);
    let whole = b"CREATE TABLE t (n int);\n-- Dump completed on 2026-11-29 12:00:00\n";
    let text = b"-- Dump completed".len();
    let start = whole.len() - b"-- Dump completed on 2026-11-29 12:00:00\n".len();
    holds(&mysql, whole, "dump-completed", |length| length >= start + text);
    let postgres = crate::database::trailer_of_stream(crate::snapshot::DumpKind::Postgres);
    for end in [
        "--\n-- PostgreSQL database dump complete\n--\n\n",
        "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict 3kR0\n\n",
    ] {
        let text = format!("{}{end}", "INSERT\n".repeat(1000));
        assert_eq!(checked(&postgres, text.as_bytes(), 333).0, Ok(Some("dump-completed")), "{end}");
        let more = format!("{text}INSERT");
        assert!(checked(&postgres, more.as_bytes(), 333).0.is_err());
    }
    // The end of a database is not that of a cluster.
    let cluster = |end: &str| {
        let head = "--\n-- PostgreSQL database cluster dump\n--\n\n";
        format!("{head}{}--\n-- PostgreSQL database {end}\n--\n\n", "INSERT\n".repeat(1000))
    };
    for piece in [1, 333, 1 << 20] {
        let whole = cluster("cluster dump complete");
        assert_eq!(checked(&postgres, whole.as_bytes(), piece).0, Ok(Some("dump-completed")));
        let part = cluster("dump complete");
        assert!(checked(&postgres, part.as_bytes(), piece).0.is_err());
    }
    let own = Trailer::Text("all done".to_owned());
    assert_eq!(checked(&own, b"rows\nall done\n", 3).0, Ok(Some("text")));
    assert!(checked(&own, b"all done\nrows\n", 3).0.is_err());
    assert!(checked(&own, b"", 3).0.is_err());
    // A last line that is longer than what is kept has no beginning.
    let long = "all done ".repeat(10_000);
    for piece in [1, 9, 5000, 1 << 20] {
        assert!(checked(&own, format!("x{long}").as_bytes(), piece).0.is_err(), "{piece}");
    }
    assert_eq!(checked(&own, format!("{long}\nall done").as_bytes(), 77).0, Ok(Some("text")));
}

#[test]
fn an_sqlite_file_has_all_its_pages() {
    let mut file = vec![7; 3 * 4096];
    file[..16].copy_from_slice(b"SQLite format 3\0");
    file[16..18].copy_from_slice(&4096_u16.to_be_bytes());
    for at in [24, 92] {
        file[at..at + 4].copy_from_slice(&5_u32.to_be_bytes());
    }
    file[28..32].copy_from_slice(&3_u32.to_be_bytes());
    for piece in [13, 4096, 1 << 20] {
        assert_eq!(checked(&Trailer::Sqlite, &file, piece).0, Ok(Some("sqlite-pages")));
    }
    for length in [0, 50, 99, 100, 4096, 8192, file.len() - 1] {
        assert!(checked(&Trailer::Sqlite, &file[..length], 1000).0.is_err(), "{length}");
    }
    file.extend_from_slice(&[0; 4096]);
    assert!(checked(&Trailer::Sqlite, &file, 1000).0.is_err());
}

/// A BSON document of text, booleans and long numbers.
fn bson(fields: &[(&str, Result<&str, i64>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let (kind, value) = match value {
            Ok(text) => {
                let length = u32::try_from(text.len() + 1).unwrap();
                (2, [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat())
            }
            Err(number) if *name == "EOF" => (8, vec![u8::try_from(*number).unwrap()]),
            Err(number) => (0x12, number.to_le_bytes().to_vec()),
        };
        body.extend([&[kind][..], name.as_bytes(), &[0], &value].concat());
    }
    let length = u32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &body, &[0]].concat()
}

fn mongo_header(collection: &str, is_end: bool, crc: u64) -> Vec<u8> {
    let crc = i64::from_le_bytes(crc.to_le_bytes());
    bson(&[
        ("db", Ok("shop")),
        ("collection", Ok(collection)),
        ("EOF", Err(i64::from(is_end))),
        ("CRC", Err(crc)),
    ])
}

/// An archive of two collections whose blocks alternate, one that is empty, and a view.
fn mongo() -> Vec<u8> {
    let end = [0xff; 4];
    let documents: Vec<_> =
        (0..9).map(|n| bson(&[("n", Err(n)), ("text", Ok("some text"))])).collect();
    let crc = |part: &[Vec<u8>]| crc_fast::checksum(CrcAlgorithm::Crc64Xz, &part.concat());
    let mut bytes = vec![0x6d, 0xe2, 0x99, 0x81];
    bytes.extend(bson(&[("version", Ok("0.1")), ("concurrent_collections", Err(4))]));
    for name in ["a", "b", "empty", "view"] {
        let metadata =
            bson(&[("db", Ok("shop")), ("collection", Ok(name)), ("metadata", Ok("{}"))]);
        bytes.extend(metadata);
    }
    bytes.extend(end);
    let block = |name, part: &[Vec<u8>]| {
        [mongo_header(name, false, 0), part.concat(), end.to_vec()].concat()
    };
    let ended = |name, crc| [mongo_header(name, true, crc), end.to_vec()].concat();
    bytes.extend(block("a", &documents[..2]));
    bytes.extend(block("b", &documents[5..]));
    bytes.extend(block("a", &documents[2..5]));
    bytes.extend(ended("a", crc(&documents[..5])));
    bytes.extend(ended("empty", 0));
    bytes.extend(ended("b", crc(&documents[5..])));
    bytes
}

#[test]
fn an_archive_of_mongodump_ends_every_collection_it_began() {
    let whole = mongo();
    // Where every collection that was begun has ended, nothing tells that more should come.
    let ends = |length: usize| {
        let rest = whole.len() - length;
        let last = mongo_header("b", true, 0).len() + 4;
        let prelude = 4 + whole[4..].windows(4).position(|window| window == [0xff; 4]).unwrap() + 4;
        length == prelude || (rest == 0 && last > 0)
    };
    holds(&Trailer::Mongo, &whole, "mongo-archive", ends);
    // A byte of a document is flipped.
    let at = whole.windows(9).position(|window| window == b"some text").unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    let flaw = checked(&Trailer::Mongo, &flipped, 100).0.unwrap_err();
    assert!(flaw.to_string().contains("shop.a"), "{flaw}");
    assert!(checked(&Trailer::Mongo, b"Failed: can't create session", 100).0.is_err());
}

fn pg_integer(number: i64) -> Vec<u8> {
    let sign = u8::from(number < 0);
    let bytes = u32::try_from(number.unsigned_abs()).unwrap().to_le_bytes();
    [&[sign][..], &bytes].concat()
}

fn pg_string(text: Option<&str>) -> Vec<u8> {
    match text {
        Some(text) => [pg_integer(i64::try_from(text.len()).unwrap()), text.into()].concat(),
        None => pg_integer(-1),
    }
}

/// A dump with an entry without data, one with data, and large objects.
fn pgdump(minor: u8) -> Vec<u8> {
    let mut bytes = [b"PGDMP".as_slice(), &[1, minor, 0, 4, 8, 1]].concat();
    bytes.extend(if minor >= 15 { vec![0] } else { pg_integer(0) });
    (0..7).for_each(|number| bytes.extend(pg_integer(number)));
    ["shop", "15.14", "15.14"].iter().for_each(|text| bytes.extend(pg_string(Some(text))));
    bytes.extend(pg_integer(3));
    for (id, state) in [(1, 3), (2, 1), (3, 1)] {
        bytes.extend([pg_integer(id), pg_integer(i64::from(state == 1))].concat());
        ["0", "0", "rows", "TABLE"].iter().for_each(|text| bytes.extend(pg_string(Some(text))));
        bytes.extend(pg_integer(2));
        let strings = if minor >= 14 { 6 } else { 5 };
        (0..strings).for_each(|_| bytes.extend(pg_string(Some("CREATE TABLE rows ()"))));
        if minor >= 16 {
            bytes.extend(pg_integer(114));
        }
        ["postgres", "false", "1"].iter().for_each(|text| bytes.extend(pg_string(Some(text))));
        bytes.extend(pg_string(None));
        bytes.extend([&[state][..], &[0; 8]].concat());
    }
    let piece =
        |length: usize| [pg_integer(i64::try_from(length).unwrap()), vec![b'x'; length]].concat();
    bytes.extend([vec![1], pg_integer(2), piece(100), piece(30), pg_integer(0)].concat());
    let object = |id| [pg_integer(id), piece(20), pg_integer(0)].concat();
    bytes.extend([vec![3], pg_integer(3), object(7), object(8), pg_integer(0)].concat());
    bytes
}

#[test]
fn a_custom_dump_has_every_block_its_contents_announce() {
    for minor in 12..=16 {
        holds(&Trailer::PgDump, &pgdump(minor), "pgdump", |_| false);
    }
    let mut more = pgdump(16);
    more.push(9);
    assert!(checked(&Trailer::PgDump, &more, 10).0.is_err());
    assert!(checked(&Trailer::PgDump, b"pg_dump: error: connection failed", 10).0.is_err());
    // What a later version has behind its header is not known.
    let later = [b"PGDMP".as_slice(), &[1, 99, 0, 4, 8, 1], b"whatever"].concat();
    assert_eq!(checked(&Trailer::PgDump, &later, 3).0, Ok(None));
    // As one stream of several formats.
    holds(&Trailer::Postgres, &pgdump(16), "pgdump", |_| false);
    assert_eq!(checked(&Trailer::Postgres, &later, 3).0, Ok(None));
}
