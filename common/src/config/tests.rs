use super::*;
use crate::exit::chain;

const NAME: &str = "AWS_SECRET_ACCESS_KEY";

fn from_file(content: &[u8]) -> Result<Option<Secret>, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, content).unwrap();
    secret_from(NAME, None, Some(path))
}

fn text(secret: Option<Secret>) -> String {
    secret.unwrap().expose().to_owned()
}

#[test]
fn neither_form_is_no_secret() {
    assert!(secret_from(NAME, None, None).unwrap().is_none());
}

#[test]
fn a_value_is_taken_as_it_is() {
    assert_eq!(text(secret_from(NAME, Some("key \n".to_owned()), None).unwrap()), "key \n");
}

#[test]
fn both_forms_are_refused() {
    let error = secret_from(NAME, Some("key".to_owned()), Some("/file".into())).unwrap_err();
    let sentence = "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE are both set; keep one";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn an_empty_value_is_refused() {
    let error = secret_from(NAME, Some(String::new()), None).unwrap_err();
    assert!(error.to_string().starts_with("AWS_SECRET_ACCESS_KEY is set but empty"));
}

#[test]
fn one_line_ending_of_a_file_is_dropped() {
    assert_eq!(text(from_file(b"key").unwrap()), "key");
    assert_eq!(text(from_file(b"key\n").unwrap()), "key");
    assert_eq!(text(from_file(b"key\r\n").unwrap()), "key");
    assert_eq!(text(from_file(b" key\n\n").unwrap()), " key\n");
}

#[test]
fn an_empty_file_is_refused() {
    for content in [&b""[..], b"\n"] {
        let sentence = from_file(content).unwrap_err().to_string();
        assert!(
            sentence.ends_with("the file that AWS_SECRET_ACCESS_KEY_FILE names, is empty"),
            "{sentence}"
        );
    }
}

#[test]
fn a_file_at_the_limit_is_read_and_one_beyond_is_refused() {
    let limit = usize::try_from(SECRET_FILE_BYTES_MAX).unwrap();
    assert_eq!(text(from_file(&vec![b'k'; limit]).unwrap()).len(), limit);
    let sentence = from_file(&vec![b'k'; limit + 1]).unwrap_err().to_string();
    assert!(sentence.ends_with("is larger than 65536 bytes"), "{sentence}");
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    assert!(from_file(b"\xff\xfe").unwrap_err().to_string().ends_with("is not UTF-8 text"));
}

#[test]
fn what_may_be_the_secret_itself_is_not_repeated() {
    for secret in ["hunter2", "", "a/b"] {
        let error = secret_from(NAME, None, Some(secret.into())).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the file that AWS_SECRET_ACCESS_KEY_FILE names"));
        assert!(secret.is_empty() || !error.contains(secret), "{error}");
    }
    let error = secret_from(NAME, None, Some("./nowhere".into())).unwrap_err().to_string();
    assert!(error.contains("./nowhere"), "{error}");
}

#[test]
fn a_missing_file_is_refused_with_its_cause() {
    let error = secret_from(NAME, None, Some("/nowhere/key".into())).unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot read /nowhere/key, the file that AWS_SECRET_ACCESS_KEY_FILE names: \
         No such file or directory (os error 2)"
    );
}
