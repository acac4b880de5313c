use std::fs;

use super::*;

fn polled(followed: &mut Followed) -> Vec<String> {
    let mut lines = Vec::new();
    followed
        .poll(&mut |line, _| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
    lines
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_file_is_followed_through_growth_rotation_and_truncation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.log");
    append(&path, "one\ntw");
    let mut followed = Followed::open(&path).unwrap();
    assert_eq!(polled(&mut followed), ["one"]);
    assert_eq!(polled(&mut followed), [""; 0]);
    append(&path, "o\n");
    assert_eq!(polled(&mut followed), ["two"]);

    append(&path, "three\n");
    fs::rename(&path, directory.path().join("a.log.1")).unwrap();
    append(&path, "four\n");
    assert_eq!(polled(&mut followed), ["three", "four"]);

    fs::write(&path, "5\n").unwrap();
    assert_eq!(polled(&mut followed), ["5"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(polled(&mut followed), [""; 0]);
    append(&path, "six\n");
    assert_eq!(polled(&mut followed), ["six"]);
}

#[test]
fn the_youngest_records_are_kept() {
    let mut last = Last::default();
    for number in 0..10 {
        last.push(number.to_string().as_bytes(), false, 3);
    }
    let kept: Vec<&[u8]> = last.lines.iter().map(|(raw, _)| raw.as_slice()).collect();
    assert_eq!(kept, [b"7", b"8", b"9"]);
    assert_eq!(last.bytes, 3);
    last.push(b"x", false, 0);
    assert!(last.lines.is_empty());
}
