use super::*;

#[test]
fn a_path_named_twice_or_inside_another_is_saved_once() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    std::fs::create_dir_all(top.join("a/b")).unwrap();
    std::fs::create_dir_all(top.join("a.b")).unwrap();
    let paths = ["a/b", "a.b", "a", "a"].map(|name| top.join(name));
    let sources = of_paths(&paths, &[]).unwrap();
    let roots: Vec<_> = sources.roots.iter().map(|root| display_path(root.path())).collect();
    assert_eq!(roots, ["a", "a.b"].map(|name| top.join(name).display().to_string()));
    assert_eq!(sources.sources.len(), 3);
    assert_eq!(sources.notes.len(), 2);
}

#[test]
fn a_source_inside_the_repository_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().canonicalize().unwrap().join("repo");
    std::fs::create_dir_all(repository.join("packs")).unwrap();
    let own = own_directories(Some(&Location::Directory(repository.clone())), None);
    for path in [repository.clone(), repository.join("packs")] {
        assert!(matches!(of_paths(&[path], &own), Err(SourcesError::InsideRepository(_))));
    }
    assert!(of_paths(&[directory.path().to_owned()], &own).is_ok());
}

#[test]
fn a_missing_source_is_named() {
    let error = of_paths(&[PathBuf::from("/no/such/place")], &[]).unwrap_err();
    assert!(error.to_string().contains("/no/such/place"), "{error}");
}

#[test]
fn a_repository_that_is_seen_under_another_path_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (repository, alias) = (directory.path().join("repo"), directory.path().join("alias"));
    std::fs::create_dir(&repository).unwrap();
    std::os::unix::fs::symlink(&repository, &alias).unwrap();
    // Not canonical, so that only device and inode tell.
    assert!(matches!(of_paths(&[repository], &[alias]), Err(SourcesError::InsideRepository(_))));
}

#[test]
fn roots_of_trust_and_key_files_are_no_data() {
    let variables = || {
        [
            ("AWS_SECRET_ACCESS_KEY_FILE", "/nowhere/key"),
            ("AWS_REGION", "/nowhere/region"),
            ("BACKUP_SFTP_KEY_FILE", "/nowhere/sftp"),
            ("AZURE_STORAGE_KEY_FILE", "/nowhere/azure"),
            ("BACKUP_FROM_KEY_FILE", "/nowhere/from"),
            ("BACKUP_DATA_FILE", "/nowhere/data"),
            ("SSL_CERT_FILE", "/nowhere/roots.pem"),
            ("SSL_CERT_DIR", "/nowhere/a:/nowhere/b:/"),
            ("OTHER_FILE", "/nowhere/other"),
        ]
        .into_iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
    };
    let keys = ["/nowhere/key", "/nowhere/sftp", "/nowhere/azure", "/nowhere/from"];
    assert_eq!(key_files_in(variables()), keys.map(PathBuf::from));
    let places = trust_places(variables());
    for place in ["/etc/ssl/certs", "/etc/pki", "/nowhere/roots.pem", "/nowhere/a", "/nowhere/b"] {
        assert!(places.contains(&PathBuf::from(place)), "{place}");
    }
    assert!(!places.contains(&PathBuf::from("/")));
    assert!(!places.iter().any(|place| place.ends_with("region") || place.ends_with("other")));
}

#[test]
fn every_file_that_a_setting_names_is_known_as_one_with_a_secret() {
    let known = crate::cli::known_variables();
    let files: Vec<_> = known.iter().filter(|name| name.ends_with("_FILE")).collect();
    assert!(files.len() >= 7, "{files:?}");
    for name in files {
        assert!(SECRET_FILES.contains(&name.as_str()), "{name}");
    }
}
