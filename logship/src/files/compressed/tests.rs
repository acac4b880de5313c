use std::io::Write as _;

use super::*;

fn text() -> Vec<u8> {
    (0..400_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
}

fn written(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn windows_walk_over_the_whole_content() {
    let text = text();
    let (first, second) = text.split_at(1_000_000);
    let members = [gzip(first), gzip(second)].concat();
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    for (file, compression) in
        [(written(&members), Compression::Gzip), (written(&zstd), Compression::Zstd)]
    {
        let mut stream = Decompressed::new(file, compression).unwrap();
        let mut buffer = vec![0; 100_000];
        let (mut at, mut is_end) = (0_u64, false);
        while !is_end {
            let from = at.saturating_sub(5000);
            let (found, end) = stream.window(from, &mut buffer).unwrap();
            let begin = usize::try_from(from).unwrap();
            assert!(buffer[..found] == text[begin..begin + found]);
            at = from + found as u64;
            is_end = end;
        }
        assert_eq!(at, text.len() as u64);
        assert!(stream.skip_to(at).unwrap());
        assert!(!stream.skip_to(at + 1).unwrap());
        assert_eq!(stream.kept(at - 4, 4), Some(&text[text.len() - 4..]));
    }
}

#[test]
fn half_a_file_is_an_error() {
    let half = gzip(&text());
    let half = written(&half[..half.len() / 2]);
    let mut stream = Decompressed::new(half, Compression::Gzip).unwrap();
    assert!(stream.skip_to(u64::MAX).is_err());
}
