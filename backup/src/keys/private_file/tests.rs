use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn only_a_file_that_is_closed_to_others_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("key");
    fs::write(&path, "secret\n").unwrap();
    for (mode, is_taken) in
        [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match read("key file", &path) {
            Ok(text) => assert!(is_taken && *text == "secret\n", "{mode:o}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!is_taken && error.contains("chmod 600"), "{mode:o}: {error}");
                assert!(!error.contains("secret"), "{error}");
            }
        }
    }
}

#[test]
fn what_is_missing_no_file_too_long_or_no_text_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let long = temp.path().join("long");
    fs::write(&long, vec![b'a'; usize::try_from(BYTES_MAX).unwrap() + 1]).unwrap();
    let binary = temp.path().join("binary");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    for path in [&long, &binary] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for path in [temp.path(), &temp.path().join("missing"), &long, &binary] {
        assert!(read("key file", path).is_err(), "{}", path.display());
    }
}

#[test]
fn what_is_written_is_closed_and_replaces_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("key");
    write_new("key file", &path, "one").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(write_new("key file", &path, "two"), Err(PrivateFileError::Exists { .. })));
    assert_eq!(*read("key file", &path).unwrap(), "one");
}
