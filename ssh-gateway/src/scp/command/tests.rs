use proptest::prelude::*;

use super::*;

fn literals(command: &str) -> Option<Vec<String>> {
    parse(command.as_bytes()).map(|words| {
        words.iter().map(|word| String::from_utf8_lossy(&word.literal()).into_owned()).collect()
    })
}

#[test]
fn plain_command_lines_are_cut_as_a_shell_does() {
    let cases: [(&str, &[&str]); 12] = [
        ("scp -t .", &["scp", "-t", "."]),
        ("  scp\t-f   a  ", &["scp", "-f", "a"]),
        ("scp -f 'a b' \"c d\" e\\ f", &["scp", "-f", "a b", "c d", "e f"]),
        ("scp -f 'a'\"b\"c", &["scp", "-f", "abc"]),
        ("scp -t ''", &["scp", "-t", ""]),
        ("scp -f 'it'\\''s'", &["scp", "-f", "it's"]),
        (r#"scp -f "a\"b\\c\d""#, &["scp", "-f", r#"a"b\c\d"#]),
        (r#"scp -f '$x' "\$x" \$x"#, &["scp", "-f", "$x", "$x", "$x"]),
        ("scp -f 'a\nb'", &["scp", "-f", "a\nb"]),
        ("scp -f a\\\nb", &["scp", "-f", "ab"]),
        ("scp -f a#b", &["scp", "-f", "a#b"]),
        ("", &[]),
    ];
    for (command, words) in cases {
        assert_eq!(literals(command).expect(command), words, "{command:?}");
    }
}

#[test]
fn what_needs_a_shell_is_left_to_one() {
    for command in [
        "scp -t a; id",
        "scp -t a & id",
        "scp -t a && id",
        "scp -t a | id",
        "scp -t a < b",
        "scp -t a > b",
        "scp -t (a)",
        "scp -t $HOME",
        "scp -t \"$HOME\"",
        "scp -t `id`",
        "scp -t \"`id`\"",
        "scp -t a\nid",
        "scp -t a # b",
        "scp -t 'a",
        "scp -t \"a",
        "scp -t a\\",
        "scp -t \0",
    ] {
        assert_eq!(literals(command), None, "{command:?}");
    }
    assert_eq!(literals(&"a ".repeat(100_000)), None);
}

fn options(words: &[&str]) -> Option<(Options, usize)> {
    let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Options::of(&words)
}

#[test]
fn options_of_both_directions() {
    let sink =
        Options { direction: Direction::Sink, recursive: false, preserve: false, directory: false };
    let source = Options { direction: Direction::Source, ..sink };
    assert_eq!(options(&["scp", "-t", "a"]), Some((sink, 2)));
    assert_eq!(options(&["/usr/bin/scp", "-f", "a"]), Some((source, 2)));
    let all = Options { recursive: true, preserve: true, directory: true, ..sink };
    assert_eq!(options(&["scp", "-v", "-r", "-p", "-d", "-t", "--", "-a"]), Some((all, 7)));
    assert_eq!(options(&["scp", "-vrpdqt", "a", "-f"]), Some((all, 2)));
    assert_eq!(options(&["scp", "-t", "-"]), Some((sink, 2)));
    for wrong in [
        ["scp", "-r", "a"],
        ["scp", "a", "-t"],
        ["scp", "-t", "-f"],
        ["scp", "-t", "-x"],
        ["scp", "-tS", "a"],
        ["rcp", "-t", "a"],
        ["xscp", "-t", "a"],
        ["./scp", "-t", "a"],
    ] {
        assert_eq!(options(&wrong), None, "{wrong:?}");
    }
    assert_eq!(options(&[]), None);
}

#[test]
fn a_tilde_is_the_directory_sessions_begin_in() {
    let cases = [
        ("~", "."),
        ("~/a", "./a"),
        ("'~'/a", "~/a"),
        ("~/'a b'", "./a b"),
        ("a~", "a~"),
        ("~root/a", "/root/a"),
        ("~no-such-user/a", "~no-such-user/a"),
        ("~'root'", "~root"),
    ];
    for (word, expected) in cases {
        let words = parse(word.as_bytes()).expect("one word");
        assert_eq!(String::from_utf8_lossy(&words[0].path()), expected, "{word:?}");
    }
}

proptest! {
    #[test]
    fn quoting_keeps_every_byte(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut command = b"scp -f '".to_vec();
        for byte in &bytes {
            match byte {
                b'\'' => command.extend(b"'\\''"),
                byte => command.push(*byte),
            }
        }
        command.push(b'\'');
        let words = parse(&command).expect("quoted");
        prop_assert_eq!(words[2].literal(), bytes);
    }

    #[test]
    fn any_command_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(words) = parse(&bytes) {
            let literal: Vec<_> = words.iter().map(Word::literal).collect();
            let _either = Options::of(&literal);
        }
    }
}
