use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::proof::FileFacts;

fn found(path: &Path, is_compressed: bool) -> Found {
    let file = Arc::new(File::open(path).unwrap());
    let identity = FileFacts::of(&file).unwrap().identity;
    Found { path: path.to_owned(), identity, file, is_compressed }
}

#[test]
fn a_compressed_file_is_read_and_proved_as_its_text_is() {
    let directory = tempfile::tempdir().unwrap();
    let text: Vec<u8> = (0..600_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    std::fs::write(directory.path().join("plain"), &text).unwrap();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&text).unwrap();
    std::fs::write(directory.path().join("gz"), gz.finish().unwrap()).unwrap();

    let mut plain = Content::new(&found(&directory.path().join("plain"), false));
    let mut zipped = Content::new(&found(&directory.path().join("gz"), true));
    assert_eq!(plain.head().unwrap(), zipped.head().unwrap());
    for offset in [0, 1, 1000, 5000, 1_000_000, 999_999, 2_399_999, 2_400_000, 17] {
        assert_eq!(plain.proof(offset).unwrap(), zipped.proof(offset).unwrap(), "{offset}");
        let (mut one, mut other) = (vec![0; 3000], vec![0; 3000]);
        let lengths = plain.read_at(&mut one, offset).unwrap();
        assert_eq!(zipped.read_at(&mut other, offset).unwrap(), lengths, "{offset}");
        assert_eq!(one, other, "{offset}");
    }
    assert_eq!(zipped.proof(2_400_001).unwrap(), None);
}

#[test]
fn a_damaged_compressed_file_is_an_error_and_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gz");
    std::fs::write(&path, b"\x1f\x8b\x08 and no more").unwrap();
    let mut zipped = Content::new(&found(&path, true));
    zipped.head().unwrap_err();
}
