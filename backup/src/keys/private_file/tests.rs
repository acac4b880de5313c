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

#[test]
fn of_many_that_write_the_same_new_file_one_does() {
    const ROUNDS: usize = 50;
    const WRITERS: usize = 4;
    for _ in 0..ROUNDS {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("key");
        let start = std::sync::Barrier::new(WRITERS);
        let written = std::thread::scope(|scope| {
            let write = |number: usize| {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    write_new("key file", path, &number.to_string()).is_ok().then_some(number)
                })
            };
            let writers: Vec<_> = (0..WRITERS).map(write).collect();
            writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(written.len(), 1, "{written:?}");
        assert_eq!(*read("key file", &path).unwrap(), written[0].to_string());
    }
}

/// What is read of a pipe with this mode that somebody writes a text to.
fn read_of_pipe(mode: u32) -> Result<Zeroizing<String>, PrivateFileError> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    std::thread::scope(|scope| {
        // Who reads nothing closes it before, and that is an error for who writes.
        scope.spawn(|| drop(fs::write(&path, "secret")));
        read("key file", &path)
    })
}

#[test]
fn a_pipe_with_a_name_has_to_be_closed_to_others_too() {
    assert_eq!(*read_of_pipe(0o600).unwrap(), "secret");
    let error = read_of_pipe(0o622).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_pipe_without_a_name_is_taken_as_it_is() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"secret").unwrap();
    drop(writer);
    let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    assert_eq!(*read("key file", &path).unwrap(), "secret");
}
