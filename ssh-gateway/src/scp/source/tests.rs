use super::*;

#[test]
fn base_names() {
    let cases =
        [("a", "a"), ("a/b", "b"), ("a/b//", "b"), ("/a", "a"), ("/", ""), ("", ""), (".", ".")];
    for (path, name) in cases {
        assert_eq!(base_name(path.as_bytes()), name.as_bytes(), "{path}");
    }
}

#[test]
fn names_stay_on_their_line() {
    assert_eq!(one_line(b"a b\\\xff"), b"a b\\\xff");
    assert_eq!(one_line(b"a\nb\\\x01"), b"a\\^Jb\\\\\\^A");
}
