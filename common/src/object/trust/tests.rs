use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

#[test]
fn a_service_without_tls_needs_no_roots() {
    assert_eq!(roots(Some("http://minio:9000")).unwrap(), None);
}

#[test]
fn what_the_environment_names_is_read_whole_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("bundle.pem"), PEM).unwrap();
    let directory = place.path().join("hashed");
    fs::create_dir_all(directory.join("deeper")).unwrap();
    fs::write(directory.join("a.0"), PEM).unwrap();
    fs::write(directory.join("README"), "no certificate").unwrap();
    symlink("/no/such/file", directory.join("b.0")).unwrap();
    let file = Some(place.path().join("bundle.pem"));
    let both = Places::chosen(file.clone(), vec![directory.clone()]).unwrap();
    assert_eq!(both.read_all().unwrap().unwrap(), format!("{PEM}{PEM}\n").as_bytes());
    let one = Places::chosen(None, vec![directory]).unwrap();
    assert_eq!(one.read_all().unwrap().unwrap(), format!("{PEM}\n").as_bytes());
    let other = Places::chosen(file, vec![PathBuf::new()]).unwrap();
    assert_eq!(other.read_all().unwrap().unwrap(), PEM.as_bytes());
    assert_eq!(Places::chosen(None, vec![PathBuf::new()]), None);
}

#[test]
fn what_is_named_and_cannot_be_used_is_named_in_turn() {
    let refused = |file: &str| {
        Places::chosen(Some(PathBuf::from(file)), Vec::new()).unwrap().read_all().unwrap_err()
    };
    let missing = refused("/no/such/file.pem").to_string();
    assert_eq!(missing, "cannot read the CA certificates in /no/such/file.pem");
    assert!(matches!(refused("/dev/zero"), TrustError::TooLong { .. }));
    assert!(matches!(refused("/dev/null"), TrustError::Empty(_)));
    assert!(matches!(refused(""), TrustError::Unreadable { .. }));
}

#[test]
fn usual_places_that_are_missing_or_empty_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let places = Places {
        files: vec![path("missing.crt"), path("empty.crt")],
        directories: vec![path("missing"), path("roots")],
    };
    fs::write(path("empty.crt"), "").unwrap();
    assert_eq!(places.read_first(), None);
    fs::create_dir(path("roots")).unwrap();
    fs::write(path("roots/a.pem"), PEM).unwrap();
    assert_eq!(places.read_first().unwrap(), format!("{PEM}\n").as_bytes());
    fs::write(path("empty.crt"), PEM).unwrap();
    assert_eq!(places.read_first().unwrap(), PEM.as_bytes());
}

#[test]
fn missing_roots_are_one_sentence_that_names_the_mount() {
    let error = TrustError::None("https://s3.example".to_owned()).to_string();
    assert!(error.contains("`-v /etc/ssl/certs:/etc/ssl/certs:ro`"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
