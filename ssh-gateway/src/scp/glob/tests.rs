use std::fs;

use proptest::prelude::*;

use super::super::command::parse;
use super::*;

fn word(text: &str) -> Word {
    parse(text.as_bytes()).expect("a word").remove(0)
}

#[test]
fn patterns() {
    let cases = [
        ("*", "a", true),
        ("*", "", true),
        ("*", ".a", false),
        (".*", ".a", true),
        ("?", "a", true),
        ("?", "", false),
        ("?", ".", false),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbYbZ", false),
        ("*.txt", "a.txt", true),
        ("*.txt", "a.txt.gz", false),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[!a-c]x", "dx", true),
        ("[^a-c]x", "ax", false),
        ("[]]", "]", true),
        ("[]-a]", "^", true),
        ("[a-]", "-", true),
        ("[", "[", true),
        ("[a", "[a", true),
        ("'*'", "*", true),
        ("'*'", "a", false),
        ("a'?'", "a?", true),
        ("\\[a]", "[a]", true),
        ("[\\!a]", "!", true),
        ("[!'a']", "a", false),
        ("********************b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
    ];
    for (pattern, name, expected) in cases {
        assert_eq!(matches(&word(pattern).0, name.as_bytes()), expected, "{pattern} {name}");
    }
}

#[test]
fn words_become_the_files_that_are_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    for name in ["one/a.txt", "one/b.txt", "one/c d.txt", "two/a.txt", "two/.hidden", "two/*"] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, "").expect("a file");
    }
    let cases: [(&str, &[&str]); 9] = [
        ("/one/*.txt", &["/one/a.txt", "/one/b.txt", "/one/c d.txt"]),
        ("/*/a.txt", &["/one/a.txt", "/two/a.txt"]),
        ("/*", &["/one", "/two"]),
        ("/*/", &["/one/", "/two/"]),
        ("/two/.*", &["/two/.hidden"]),
        ("/two/'*'", &["/two/*"]),
        ("/none*", &["/none*"]),
        ("/one/a.txt/*", &["/one/a.txt/*"]),
        ("/one/c*", &["/one/c d.txt"]),
    ];
    for (pattern, expected) in cases {
        let found = expand(&word(&format!("{}{pattern}", root.display())));
        let found: Vec<_> = found.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let expected: Vec<_> =
            expected.iter().map(|name| format!("{}{name}", root.display())).collect();
        assert_eq!(found, expected, "{pattern}");
    }
}

proptest! {
    #[test]
    fn a_quoted_name_matches_itself_only(name in "[a*?\\[\\].!-]{1,12}", other in "[a*?\\[\\].!-]{1,12}") {
        let quoted: Vec<_> = name.bytes().map(|byte| Letter { byte, quoted: true }).collect();
        prop_assert!(matches(&quoted, name.as_bytes()));
        prop_assert_eq!(matches(&quoted, other.as_bytes()), name == other);
    }
}
