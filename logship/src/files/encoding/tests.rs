use super::*;

fn decoded(encoding: Encoding, text: &[u8]) -> Vec<(String, bool, Range<u64>)> {
    let mut pieces = Vec::new();
    encoding.decode(text, 100, |bytes, ends, marks| {
        pieces.push((String::from_utf8(bytes.to_vec()).unwrap(), ends, marks));
    });
    pieces
}

#[test]
fn utf_16_of_both_orders_becomes_lines_with_their_places() {
    for (encoding, mark) in [(Encoding::Utf16Le, [0xff, 0xfe]), (Encoding::Utf16Be, [0xfe, 0xff])] {
        let units: Vec<u16> = "eins\nzwei ü €😀\nhalb".encode_utf16().collect();
        let text: Vec<u8> = units
            .iter()
            .flat_map(|unit| match encoding {
                Encoding::Utf16Le => unit.to_le_bytes(),
                _ => unit.to_be_bytes(),
            })
            .collect();
        assert_eq!(Encoding::of(&mark), encoding);
        assert_eq!(encoding.mark_len(&mark), 2);
        assert_eq!(encoding.lines_len(&text), 2 * (5 + 11));
        assert_eq!(encoding.lines_len(&text[..text.len() - 1]), 2 * (5 + 11));
        assert_eq!(
            decoded(encoding, &text),
            [
                ("eins".to_owned(), true, 100..110),
                ("zwei ü €😀".to_owned(), true, 110..132),
                ("halb".to_owned(), false, 132..140),
            ]
        );
    }
}

#[test]
fn everything_else_is_bytes() {
    assert_eq!(Encoding::of(b""), Encoding::Bytes);
    assert_eq!(Encoding::of(&[0xff, 0xfe, 0, 0]), Encoding::Bytes);
    assert_eq!(Encoding::Bytes.mark_len(b"\xef\xbb\xbfx"), 3);
    assert_eq!(Encoding::Bytes.mark_len(b"\xef\xbb"), 0);
    assert_eq!(Encoding::Bytes.lines_len(b"a\nb"), 2);
    assert_eq!(Encoding::Bytes.lines_len(b"ab"), 0);
    assert_eq!(
        decoded(Encoding::Bytes, b"a\n\nb"),
        [
            ("a".to_owned(), true, 100..102),
            (String::new(), true, 102..103),
            ("b".to_owned(), false, 103..104)
        ]
    );
}
