use proptest::prelude::*;

use super::*;

fn passed(bytes: &[u8]) -> Vec<u8> {
    Filter::default().pass(bytes)
}

#[test]
fn what_is_shown_passes() {
    for shown in [
        "grün €\r\n\ttab\x08",
        "\x1b[1;31mred\x1b[0m",
        "\x1b[38:2:1:2:3m",
        "\x1b[2J\x1b[H\x1b[10;20H\x1b[?1049h\x1b[?25l\x1b[?7;25h",
        "\x1b[3;20r\x1bM\x1b7\x1b8\x1b[4h",
        "\x1b(0lqqk\x1b(B\x0e\x0f",
    ] {
        assert_eq!(passed(shown.as_bytes()), shown.as_bytes(), "{shown:?}");
    }
}

#[test]
fn what_a_terminal_would_obey_does_not() {
    for (hostile, left) in [
        // Title, clipboard, link.
        (&b"a\x1b]0;title\x07b"[..], &b"ab"[..]),
        (b"a\x1b]52;c;cm0gLXJmIC8K\x1b\\b", b"ab"),
        (b"a\x1b]8;;http://x/\x1b\\text\x1b]8;;\x1b\\b", b"atextb"),
        // Questions that a terminal answers as if somebody typed.
        (b"a\x1b[6nb\x1b[cb\x1b[>cb\x1b[?6nb\x1b[0cb", b"abbbbb"),
        (b"a\x1bP$qm\x1b\\b\x1bP+q544e\x1b\\", b"ab"),
        (b"a\x1b[21tb", b"ab"),
        (b"a\x05b\x1bZc", b"abc"),
        // Keyboard, mouse, pasting, resetting.
        (b"a\x1b[?1000hb\x1b[?2004h\x1b[?1006;25hb\x1b=\x1b>\x1bc\x1b[!p", b"abb"),
        (b"a\x1b[20hb\x1b[2hc", b"abc"),
        // Screen's title, APC, PM, SOS.
        (b"a\x1bktitle\x1b\\b\x1b_x\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\c", b"abc"),
        // C1 controls as characters, and bytes that are none.
        (b"a\xc2\x9b6nb", b"a6nb"),
        (b"a\xffb\xe2\x82c", b"a\xef\xbf\xbdb\xef\xbf\xbdc"),
        // A string that is broken off by another sequence.
        (b"\x1b]0;x\x1b[31mred", b"\x1b[31mred"),
        (b"\x1b]0;x\x18text", b"text"),
        // Controls inside of a sequence.
        (b"\x1b[3\n1mx", b"\n\x1b[31mx"),
    ] {
        let found = passed(hostile);
        let text = String::from_utf8_lossy(&found).into_owned();
        assert_eq!(found, left, "{:?}: {text:?}", String::from_utf8_lossy(hostile));
    }
    let long = [b"\x1b[".as_slice(), &[b'1'; 100], b"m"].concat();
    assert_eq!(passed(&long), b"");
}

proptest! {
    #[test]
    fn where_it_is_cut_does_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..80) {
        let (one, other) = bytes.split_at(at.min(bytes.len()));
        let mut filter = Filter::default();
        let parts = [filter.pass(one), filter.pass(other)].concat();
        prop_assert_eq!(parts, passed(&bytes));
    }

    #[test]
    fn what_has_passed_passes_again(bytes in prop::collection::vec(
        prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(b'?'), Just(b';'), Just(b'h'), Just(b'n'), Just(b'1'), any::<u8>()], 0..80)
    ) {
        // A sequence that ends with the bytes is not passed on yet: nothing can be built of what is.
        let once = passed(&bytes);
        prop_assert_eq!(passed(&once), once.clone());
        prop_assert!(std::str::from_utf8(&once).is_ok());
    }
}
