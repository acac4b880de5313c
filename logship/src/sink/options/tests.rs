use proptest::prelude::*;

use super::*;

#[test]
fn a_url_is_taken_apart() {
    let (url, options) = split_url("HTTP://me@h:1/a/b?x=1%26&y&z=", "").unwrap();
    assert_eq!((url.scheme.as_str(), url.user.as_deref()), ("http", Some("me")));
    assert_eq!((url.authority.as_str(), url.path.as_str()), ("h:1", "/a/b"));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(options, [pair("x", "1&"), pair("y", ""), pair("z", "")]);
    assert_eq!(url.text(), "http://h:1/a/b");
}

#[test]
fn a_refused_url_shows_nothing_before_its_host() {
    for text in ["://user:secret@h", "x y://user:secret@h", "http://user:secret@h"] {
        let fault = split_url(text, "").unwrap_err().to_string();
        assert!(!fault.contains("secret"), "{fault}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in any::<String>()) {
        let _split = split_url(&text, "");
        let _split = split_url(&format!("http://{text}"), "");
    }
}
