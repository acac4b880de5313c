use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_written_file_has_its_content_and_mode_and_leaves_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repo.json");
    write(&path, b"first", 0o600).unwrap();
    write(&path, b"second", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(directory.path()), ["repo.json"]);
}

#[test]
fn a_name_is_taken_once_and_keeps_its_first_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repo.json");
    let path = path.as_path();
    let taken: Vec<u8> = std::thread::scope(|scope| {
        let write = |number: u8| scope.spawn(move || write_new(path, &[number; 9], 0o600));
        let writers: Vec<_> = (0..8).map(write).collect();
        let taken = (0..8).zip(writers).filter_map(|(number, writer)| {
            let written = writer.join().unwrap();
            let is_taken = |error: &DurableError| error.io().kind() == io::ErrorKind::AlreadyExists;
            assert!(written.as_ref().err().is_none_or(is_taken), "{written:?}");
            written.is_ok().then_some(number)
        });
        taken.collect()
    });
    let [winner] = taken.as_slice() else { panic!("{taken:?} have taken it") };
    assert_eq!(fs::read(path).unwrap(), [*winner; 9]);
    assert_eq!(names(directory.path()), ["repo.json"]);
}

#[test]
fn a_file_that_is_not_committed_is_removed_and_the_old_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pack");
    write(&path, b"old", 0o600).unwrap();
    let mut file = DurableFile::create(&path, 0o600).unwrap();
    file.write_all(b"half of the new").unwrap();
    assert_eq!(names(directory.path()).len(), 2);
    assert!(names(directory.path()).iter().any(|name| is_temporary(name)));
    drop(file);
    assert_eq!(names(directory.path()), ["pack"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_failed_rename_removes_the_temporary_file_and_names_the_target() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("taken");
    fs::create_dir(&path).unwrap();
    let error = write(&path, b"bytes", 0o600).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot rename the new file to {}", path.display()));
    assert_eq!(error.io().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(names(directory.path()), ["taken"]);
}

#[test]
fn a_missing_directory_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/file");
    let error = write(&path, b"", 0o600).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create {}", path.display()));
    assert_eq!(error.io().kind(), io::ErrorKind::NotFound);
    assert_eq!(error.path(), path);
}

#[test]
fn the_longest_name_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n".repeat(NAME_BYTES_MAX));
    write(&path, b"x", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn a_path_without_a_name_is_refused() {
    let error = write(Path::new("/"), b"", 0o600).unwrap_err();
    assert_eq!(error.io().kind(), io::ErrorKind::InvalidFilename);
}

#[test]
fn directories_are_created_level_by_level_and_existing_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b/c");
    create_directories(&deep, 0o700).unwrap();
    create_directories(&deep, 0o700).unwrap();
    assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_file_in_the_way_of_a_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"").unwrap();
    let error = create_directories(&path.join("below"), 0o700).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create the directory {}", path.display()));
}

#[test]
fn only_names_of_this_module_are_temporary() {
    assert!(is_temporary(".pack.tmp-0123456789abcdef"));
    assert!(is_temporary("..tmp-0123456789abcdef"));
    assert!(!is_temporary("pack.tmp-0123456789abcdef"));
    assert!(!is_temporary(".pack.tmp-0123456789abcde"));
    assert!(!is_temporary(".pack.tmp-0123456789abcdeg"));
    assert!(!is_temporary(".pack"));
}

#[test]
fn a_new_file_takes_the_place_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    write_new(&path, b"first", 0o600).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let dangling = directory.path().join("dangling");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &dangling).unwrap();
    for taken in [&path, &dangling, &directory.path().to_owned()] {
        let error = write_new(taken, b"second", 0o600).unwrap_err();
        assert_eq!(error.io().kind(), io::ErrorKind::AlreadyExists, "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names(directory.path()), ["dangling", "key"]);
}
