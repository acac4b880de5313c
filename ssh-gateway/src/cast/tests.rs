use proptest::prelude::*;

use super::*;

fn back(pieces: &[&[u8]]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend(bytes_of(&encoder.text(piece)));
    }
    bytes.extend(bytes_of(&encoder.rest()));
    bytes
}

#[test]
fn text_is_as_it_is_and_bytes_come_back() {
    let mut encoder = Encoder::default();
    assert_eq!(encoder.text("grün\r\n".as_bytes()), "grün\r\n");
    assert_eq!(encoder.text(b"a\xffb"), "a\u{10feff}b");
    // A character in two pieces is one character.
    assert_eq!(encoder.text(b"\xe2\x82"), "");
    assert_eq!(encoder.text(b"\xac"), "€");
    assert_eq!(encoder.text(b"\xe2\x82"), "");
    assert_eq!(encoder.rest(), "\u{10fee2}\u{10fe82}");
    // The character that stands for a byte is not taken for it.
    let own = "\u{10feff}".as_bytes();
    assert_eq!(back(&[own]), own);
}

#[test]
fn lines_are_those_of_asciicast() {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    let header = Header::new(size, 1_700_000_000, "a@\"web\"".to_owned());
    assert_eq!(
        header.line(),
        "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1700000000,\"title\":\"a@\\\"web\\\"\"}\n"
    );
    assert_eq!(Header::parse(header.line().as_bytes()), Some(header));
    let line = Event::line(Duration::from_micros(1_000_005), OUTPUT, "\x1b[2J\u{1}");
    assert_eq!(line, "[1.000005, \"o\", \"\\u001b[2J\\u0001\"]\n");
    let event = Event::parse(line.trim_end().as_bytes()).unwrap();
    assert_eq!((event.code.as_str(), event.data.as_str()), ("o", "\x1b[2J\u{1}"));
    assert_eq!(event.time.as_micros(), 1_000_005);
    assert_eq!(size_of("100x30"), Some((100, 30)));
    for other in ["{}", "[]", "[1,\"o\"]", "[-1,\"o\",\"\"]", "[1e400,\"o\",\"\"]", "[1,2,3]", ""] {
        assert_eq!(Event::parse(other.as_bytes()), None, "{other}");
    }
    assert_eq!(Header::parse(b"{\"version\":3}"), None);
}

proptest! {
    #[test]
    fn every_output_comes_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let whole: Vec<u8> = pieces.concat();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(back(&pieces), whole.clone());
        let mut encoder = Encoder::default();
        let text: String = pieces.iter().map(|piece| encoder.text(piece)).collect();
        prop_assert!(text.len() + encoder.rest().len() <= 4 * whole.len());
    }

    #[test]
    fn cuts_within_characters_do_not_show(text in "[a-zäß€😀\u{10fe80}\u{10feff}\n]{0,30}", at in 0usize..60) {
        let bytes = text.as_bytes();
        let (one, other) = bytes.split_at(at.min(bytes.len()));
        let mut encoder = Encoder::default();
        let parts = [encoder.text(one), encoder.text(other), encoder.rest()].concat();
        prop_assert_eq!(parts, Encoder::default().text(bytes));
    }

    #[test]
    fn no_line_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Event::parse(&bytes), Header::parse(&bytes));
    }
}
