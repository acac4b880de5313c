use super::*;

#[test]
fn words_behind_an_answer_are_more_than_an_answer() {
    for answer in ["", "22", "220 go\r\n", "250-one\r\n250 two\r\n", "250-one\r\n250"] {
        assert!(!is_more_than_an_answer(answer.as_bytes()), "{answer:?}");
    }
    for more in ["220 go\r\n2", "250-one\r\n250 two\r\n250 three\r\n", "220 go\r\n250-x\r\n"] {
        assert!(is_more_than_an_answer(more.as_bytes()), "{more:?}");
    }
}
