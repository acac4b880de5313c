use super::*;

fn texts(words: Option<Vec<Vec<u8>>>) -> Option<Vec<String>> {
    words.map(|words| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect())
}

#[test]
fn only_lines_without_meaning_for_a_shell_are_plain() {
    let plain = texts(plain_words(b"  /probe --a=b  c:/d "));
    assert_eq!(plain.unwrap(), ["/probe", "--a=b", "c:/d"]);
    for line in ["", " ", "A=1 x", "a;b", "a $b", "a 'b'", "a *", "a\nb", "~/x", "a > b", "a # b"] {
        assert_eq!(plain_words(line.as_bytes()), None, "{line}");
    }
}
