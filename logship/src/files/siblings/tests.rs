use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::*;

fn text(lines: std::ops::Range<u32>) -> Vec<u8> {
    lines.flat_map(|n| format!("this is line number {n}\n").into_bytes()).collect()
}

/// What a reader that went to `offset` in steps of `step` knows; after a restart only the proof.
fn former(content: &[u8], offset: usize, step: usize, is_restarted: bool) -> Former {
    let before = |at: usize| &content[at - tail_len(at as u64)..at];
    let head = content[..head_len(offset as u64)].to_vec();
    let proof = proof(&head, before(offset));
    let marks = (1..=offset / step).map(|n| ((n * step) as u64, hash(before(n * step)))).collect();
    if is_restarted {
        return Former { offset: offset as u64, proof, head: Vec::new(), marks: Vec::new() };
    }
    Former { offset: offset as u64, proof, head, marks }
}

fn candidate(path: &Path, content: &[u8]) -> Candidate {
    fs::write(path, content).unwrap();
    let facts = FileFacts::of(&File::open(path).unwrap()).unwrap();
    Candidate { path: path.to_owned(), facts }
}

fn patterns(directory: &Path) -> Patterns {
    Patterns::new(&[directory.join("*").to_str().unwrap().to_owned()], &[]).unwrap()
}

fn from(former: &Former, path: &Path, content: &[u8]) -> Option<u64> {
    let patterns = patterns(path.parent().unwrap());
    search(&patterns, former, vec![candidate(path, content)])
        .unwrap()
        .first()
        .map(|found| found.from)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_copy_is_known_wherever_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let all = text(0..40_000);
    let packed = |name: &str, content: &[u8]| match name {
        "log.1.gz" => gzip(content),
        "log.1.zst" => zstd::encode_all(content, 1).unwrap(),
        _ => content.to_vec(),
    };
    for name in ["log.1", "log.1.gz", "log.1.zst"] {
        let path = directory.path().join(name);
        for is_restarted in [false, true] {
            let known = former(&all, 600_000, 50_000, is_restarted);
            for end in [600_000, 600_001, all.len()] {
                let found = from(&known, &path, &packed(name, &all[..end]));
                assert_eq!(found, Some(600_000), "{name} {end}");
            }
            for end in [1024, 30_000, 99_999, 599_999] {
                let found = from(&known, &path, &packed(name, &all[..end]));
                assert_eq!(found, Some(end as u64), "{name} {end} {is_restarted}");
            }
        }
        let known = former(&all, 600_000, 50_000, false);
        assert_eq!(from(&known, &path, &packed(name, &all[..30])), Some(30), "{name}");
    }
}

#[test]
fn a_file_that_only_begins_alike_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let all = text(0..40_000);
    let mut other = all.clone();
    for byte in &mut other[2000..] {
        *byte ^= 1;
    }
    let known = former(&all, 600_000, 50_000, false);
    for (name, content) in [("log.1", other.clone()), ("log.1.gz", gzip(&other))] {
        assert_eq!(from(&known, &directory.path().join(name), &content), None, "{name}");
    }
    let path = directory.path().join("log.2");
    assert_eq!(from(&known, &path, &other[..100_000]), None);
    assert_eq!(from(&known, &path, b""), None);
    assert_eq!(from(&known, &path, b"something else"), None);
    let nothing_read = Former { offset: 0, ..known };
    assert_eq!(from(&nothing_read, &path, &all), None);
}

#[test]
fn copies_are_told_by_samples() {
    let directory = tempfile::tempdir().unwrap();
    let all = text(0..40_000);
    let mut torn = all.clone();
    torn[300_000..380_000].fill(b'x');
    let file = |name: &str, content: &[u8]| {
        fs::write(directory.path().join(name), content).unwrap();
        File::open(directory.path().join(name)).unwrap()
    };
    let whole = file("whole", &all);
    for (name, content, expected) in [
        ("part", &all[..100_000], Some(true)),
        ("tiny", b"t", Some(true)),
        ("same", &all, Some(true)),
        ("torn", &torn, Some(false)),
        ("empty", b"", None),
        ("longer", &[all.as_slice(), b"more\n"].concat(), Some(false)),
    ] {
        assert_eq!(is_copy(&file(name, content), &whole).unwrap(), expected, "{name}");
    }
    assert_eq!(is_copy(&whole, &file("cut", b"")).unwrap(), None);
}
