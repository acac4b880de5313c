use proptest::prelude::*;

use super::*;

/// Each byte of a file with the piece it is of and its place in that: what a layout says in short.
fn bytes_of(lengths: &[u64]) -> Vec<(usize, u64)> {
    let of = |(piece, length): (usize, &u64)| (0..*length).map(move |offset| (piece, offset));
    lengths.iter().enumerate().flat_map(of).collect()
}

fn lengths() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..7, 0..300)
}

proptest! {
    #[test]
    fn parts_are_the_bytes_of_the_range_and_no_others(
        lengths in lengths(),
        start in 0_u64..1200,
        length in 0_u64..400,
    ) {
        let bytes = bytes_of(&lengths);
        let layout = Layout::new(lengths.iter().copied());
        prop_assert_eq!(layout.end(), bytes.len() as u64);
        let parts: Vec<_> = layout.parts(start..start + length, |piece| lengths[piece]).collect();
        let mut at = start;
        let mut found = Vec::new();
        for part in &parts {
            prop_assert!(part.length > 0);
            prop_assert_eq!(part.at, at, "a part is missing or twice");
            at += part.length;
            found.extend((part.from..part.from + part.length).map(|offset| (part.piece, offset)));
        }
        let bytes = bytes.into_iter().skip(start as usize).take(length as usize);
        prop_assert_eq!(found, bytes.collect::<Vec<_>>());
    }

    #[test]
    fn data_and_holes_are_where_the_bytes_say(lengths in lengths(), offset in 0_u64..1200, seed in any::<u64>()) {
        let is_hole = |piece: usize| seed >> (piece % 64) & 1 == 1;
        let layout = Layout::new(lengths.iter().copied());
        let bytes = bytes_of(&lengths);
        let first = |wanted: bool| {
            let mut behind = bytes.iter().enumerate().skip(offset as usize);
            behind.find(|(_, (piece, _))| is_hole(*piece) == wanted).map(|(at, _)| at as u64)
        };
        let length_of = |piece: usize| lengths[piece];
        prop_assert_eq!(layout.data(offset, length_of, is_hole), first(false));
        let end = bytes.len() as u64;
        let hole = (offset < end).then(|| first(true).unwrap_or(end));
        prop_assert_eq!(layout.hole(offset, length_of, is_hole), hole);
    }
}

#[test]
fn a_file_of_many_pieces_keeps_few_offsets() {
    let layout = Layout::new(std::iter::repeat_n(1 << 20, 1_000_000));
    assert_eq!(layout.end(), 1_000_000 << 20);
    assert!(layout.marks.len() * STRIDE < 1_000_000 + STRIDE);
    let last = (1_000_000 << 20) - 1;
    let parts: Vec<_> = layout.parts(last..last + 5, |_| 1 << 20).collect();
    assert_eq!(parts, [Part { piece: 999_999, at: last, from: (1 << 20) - 1, length: 1 }]);
}

#[test]
fn lengths_beyond_any_file_do_not_wrap_around() {
    let layout = Layout::new([u64::MAX, u64::MAX]);
    assert_eq!(layout.end(), u64::MAX);
    assert_eq!(layout.parts(u64::MAX - 1..u64::MAX, |_| u64::MAX).count(), 1);
}
