use super::*;

fn pieces(frames: &mut Frames, bytes: &[u8]) -> Vec<(LogSource, Vec<u8>)> {
    frames.buffer.extend_from_slice(bytes);
    std::iter::from_fn(|| frames.next().unwrap())
        .map(|(source, piece)| (source, piece.to_vec()))
        .collect()
}

#[test]
fn frames_are_cut_wherever_they_arrive() {
    let stream = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x03err";
    for cut in 0..=stream.len() {
        let mut frames = Frames::new(true);
        let (one, other) = stream.split_at(cut);
        let mut found = pieces(&mut frames, one);
        found.extend(pieces(&mut frames, other));
        let all = |wanted| {
            found
                .iter()
                .filter(|(source, _)| *source == wanted)
                .flat_map(|(_, piece)| piece.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(all(LogSource::Stdout), b"out", "{cut}");
        assert_eq!(all(LogSource::Stderr), b"err", "{cut}");
        assert!(frames.is_between());
    }
    let mut frames = Frames::new(true);
    frames.buffer.extend_from_slice(b"\x07\0\0\0\0\0\0\x03out");
    assert!(frames.next().is_err());
}

#[test]
fn a_terminal_is_not_framed_whatever_it_begins_with() {
    let mut frames = Frames::new(false);
    let stream = b"\x01\0\0\0\0\0\0\x03out";
    assert_eq!(pieces(&mut frames, stream), [(LogSource::Stdout, stream.to_vec())]);
}
