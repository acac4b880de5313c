use super::*;

#[test]
fn a_bundle_is_read_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "PEM").unwrap();
    assert_eq!(read(file.path()).unwrap(), b"PEM");
}

#[test]
fn a_bundle_that_cannot_be_one_is_named() {
    let missing = read(Path::new("/no/such/file.pem")).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the CA certificates in /no/such/file.pem");
    assert!(matches!(read(Path::new("/dev/zero")), Err(TrustError::TooLong { .. })));
}
