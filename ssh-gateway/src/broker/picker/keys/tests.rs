use proptest::prelude::*;

use super::*;

fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Keys::default();
    bytes.iter().filter_map(|byte| keys.take(*byte)).collect()
}

#[test]
fn keys_of_all_usual_terminals_are_known() {
    use Key::{
        Backspace, Character, Clear, Down, Enter, First, GiveUp, Last, PageDown, PageUp, Up,
    };
    assert_eq!(keys(b"\x1b[A\x1bOA\x1b[1;5A\x10"), [Up; 4]);
    assert_eq!(keys(b"\x1b[B\x1bOB\x0e"), [Down; 3]);
    assert_eq!(keys(b"\x1b[5~\x1b[6~"), [PageUp, PageDown]);
    assert_eq!(keys(b"\x1b[H\x1bOH\x1b[1~\x1b[7~"), [First; 4]);
    assert_eq!(keys(b"\x1b[F\x1bOF\x1b[4~\x1b[8~"), [Last; 4]);
    assert_eq!(keys(b"\x7f\x08\x15\r\n\x03"), [Backspace, Backspace, Clear, Enter, Enter, GiveUp]);
    assert_eq!(keys("a€\u{1f600}".as_bytes()), ['a', '€', '\u{1f600}'].map(Character));
    // Function keys, Alt and mice are none of them, and leave nothing behind.
    assert_eq!(keys(b"\x1bOP\x1b[15~\x1bx\x1b[<0;1;1Mx"), [Character('x')]);
}

#[test]
fn an_escape_is_the_key_when_nothing_follows() {
    let mut keys = Keys::default();
    assert_eq!(keys.take(ESCAPE), None);
    assert!(keys.is_in_doubt());
    assert_eq!(keys.settle(), Some(Key::GiveUp));
    assert!(!keys.is_in_doubt());
    assert_eq!(keys.take(b'['), Some(Key::Character('[')));
}

#[test]
fn what_is_pasted_is_text_and_does_nothing() {
    let pasted = b"\x1b[200~we\rb\x1b[A\x1b[201~\r";
    let text = ['w', 'e', 'b'].map(Key::Character);
    assert_eq!(keys(pasted), [text.as_slice(), &[Key::Enter]].concat());
    assert_eq!(keys(b"\x1b[200~\x03"), [Key::GiveUp]);
}

#[test]
fn answers_of_a_terminal_are_not_typed() {
    assert_eq!(keys(b"\x1b]11;rgb:0/0/0\x07a\x1bP1$r0m\x1b\\b"), ['a', 'b'].map(Key::Character));
    // One without an end does not swallow everything.
    let endless = [b"\x1b]".as_slice(), &[b'x'; ANSWER_BYTES_MAX + 1], b"y"].concat();
    assert_eq!(keys(&endless), [Key::Character('y')]);
}

#[test]
fn what_is_no_text_is_left_out() {
    assert_eq!(
        keys(b"\xff\xc3a\xe2\x82\x80\xf5"),
        [Key::Character('a'), Key::Character('\u{2080}')]
    );
}

proptest! {
    /// Whatever the bytes: it comes to an end, keeps next to nothing, and hears the next plain key again.
    #[test]
    fn any_bytes_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut keys = Keys::default();
        for byte in bytes {
            if let Some(Key::Character(character)) = keys.take(byte) {
                prop_assert!(!character.is_ascii_control());
            }
            if let State::Character(kept) | State::Sequence(kept) = &keys.state {
                prop_assert!(kept.len() <= PARAMETERS_MAX);
            }
        }
        for byte in [BELL, b'm', b'm'] {
            keys.take(byte);
        }
        prop_assert_eq!(keys.take(b'x'), Some(Key::Character('x')));
    }
}
