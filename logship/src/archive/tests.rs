use std::io::Cursor;

use super::*;

const WEB: &str = r#"{"host":"h","container":"web","id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","image":"i","service":"shop","team":"x","stream":"stdout","seq":0,"ts":"2026-11-24T10:00:00.000000000Z","line":"a \"quoted\" line"}"#;
const FILE: &str = r#"{"host":"h","path":"/logs/a.log","stream":"file","seq":1,"ts":"2026-11-24T11:00:00.000000001Z","line_b64":"/w==","late":true}"#;
const GAP: &str = r#"{"host":"h","container":"web","id":"a","stream":"stderr","seq":2,"ts":"2026-11-24T12:00:00Z","control":{"control":"gap","reason":"rotated","lines":5,"exact":true}}"#;

fn reader(bytes: impl Into<Vec<u8>>) -> ArchiveReader {
    ArchiveReader::new("archive".to_owned(), Cursor::new(bytes.into())).unwrap()
}

/// Every line that `filter` takes, and how it ended.
fn lines(bytes: impl Into<Vec<u8>>, filter: &Filter) -> (Vec<Vec<u8>>, Option<String>) {
    let mut reader = reader(bytes);
    let mut lines = Vec::new();
    loop {
        match reader.next(filter) {
            Ok(Some(entry)) => lines.push(entry.line.into_owned()),
            Ok(None) => return (lines, None),
            Err(error) => return (lines, Some(chores_common::exit::chain(&error))),
        }
    }
}

fn sources(texts: &[&str]) -> Filter {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Filter { sources: Patterns::new(&texts).unwrap(), ..Filter::default() }
}

#[test]
fn records_are_read_plain_and_compressed() {
    let text = format!("{WEB}\n{FILE}\n{GAP}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let mut two_frames = zstd::encode_all(format!("{WEB}\n").as_bytes(), 1).unwrap();
    two_frames.extend(zstd::encode_all(format!("{FILE}\n{GAP}\n").as_bytes(), 1).unwrap());
    for bytes in [text.clone().into_bytes(), gzip.finish().unwrap(), two_frames] {
        let (lines, error) = lines(bytes, &Filter::default());
        assert_eq!(error, None);
        assert_eq!(lines, [&b"a \"quoted\" line"[..], b"\xff", b""]);
    }
    let mut reader = reader(text);
    assert!(reader.next(&sources(&["/logs/*"])).unwrap().unwrap().facts.is_some());
    let entry = reader.next(&Filter::default()).unwrap().unwrap();
    let Some(Control::Gap(gap)) = entry.facts.unwrap().control else { panic!("{:?}", entry.line) };
    assert_eq!(gap.lines, Some(5));
}

#[test]
fn records_are_chosen_by_source_time_and_stream() {
    let text = format!("{WEB}\n{FILE}\n{GAP}\n");
    let hour = |hour| time::parse(format!("2026-11-24T{hour}:00:00Z").as_bytes());
    for (filter, count) in [
        (Filter::default(), 3),
        (sources(&["web"]), 2),
        (sources(&["w*", "/logs/*"]), 3),
        (sources(&["shop"]), 1),
        (sources(&["aaaaaa"]), 1),
        (sources(&["aaaaa"]), 0),
        (sources(&["x"]), 0),
        (Filter { since: hour(11), ..Filter::default() }, 2),
        (Filter { until: hour(11), ..Filter::default() }, 1),
        (Filter { since: hour(10), until: hour(12), ..Filter::default() }, 2),
        (Filter { stream: Some("file".to_owned()), ..Filter::default() }, 1),
    ] {
        let (lines, error) = lines(text.clone(), &filter);
        assert_eq!((lines.len(), error), (count, None), "{filter:?}");
    }
}

#[test]
fn lines_that_are_no_records_are_lines() {
    let text = "one\n{\"a\":1}\n\nlast";
    assert_eq!(lines(text, &Filter::default()).0, [&b"one"[..], b"{\"a\":1}", b"", b"last"]);
    let (read, error) = lines(text, &sources(&["x"]));
    assert!(read.is_empty());
    let said = "archive has lines only: no source, no stream and no time can be asked for";
    assert_eq!(error.unwrap(), said);
}

#[test]
fn damage_is_one_sentence_with_its_offset_after_everything_before_it() {
    let (read, error) = lines(format!("{WEB}\n{{\"ts\":\n{FILE}\n"), &Filter::default());
    assert_eq!(read.len(), 1);
    let said = format!("archive is damaged at byte {} of its content: EOF while", WEB.len() + 1);
    assert!(error.as_ref().unwrap().starts_with(&said), "{error:?}");

    let (read, error) = lines(format!("{WEB}\n{}", FILE.get(..40).unwrap()), &Filter::default());
    assert_eq!(read.len(), 1);
    assert!(error.unwrap().starts_with("archive is damaged at byte"));

    let no_time = WEB.replace("2026-11-24T10", "yesterday");
    let (_, error) = lines(format!("{WEB}\n{no_time}\n"), &Filter::default());
    assert!(error.unwrap().ends_with("is no time"));

    let text = format!("{WEB}\n").repeat(10_000);
    let mut bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
    bytes.truncate(bytes.len() - 3);
    let (_, error) = lines(bytes, &Filter::default());
    let error = error.unwrap();
    assert!(
        error.starts_with("cannot read archive after byte ") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn a_record_without_end_is_refused_before_it_fills_the_memory() {
    let (_, error) = lines(vec![b'x'; RECORD_BYTES_MAX + 2], &Filter::default());
    assert!(error.unwrap().ends_with("a record is longer than 16777216 bytes"));
}

#[test]
fn times_are_read_in_three_forms() {
    let now = time::parse(b"2026-11-24T10:00:00Z").unwrap();
    for (text, wanted) in [
        ("2026-11-24T09:00:00.5Z", "2026-11-24T09:00:00.5Z"),
        ("2026-11-24", "2026-11-24T00:00:00Z"),
        ("2h", "2026-11-24T08:00:00Z"),
        ("1d", "2026-11-23T10:00:00Z"),
    ] {
        assert_eq!(moment(text, now).ok(), time::parse(wanted.as_bytes()), "{text}");
    }
    for text in ["", "yesterday", "10", "2026-13-01", "99999999999d"] {
        assert!(moment(text, now).is_err(), "{text}");
    }
}
