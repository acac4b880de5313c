use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

#[test]
fn only_regular_files_of_a_bounded_size_are_read() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "12345").unwrap();
    symlink("file", at("link")).unwrap();
    symlink("circle", at("circle")).unwrap();
    symlink("/proc/self/fd/0", at("magic")).unwrap();
    symlink("/proc/self/exe", at("program")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();

    assert_eq!(read(&at("file"), 5).unwrap(), b"12345");
    assert_eq!(read(&at("link"), 5).unwrap(), b"12345");
    assert_eq!(read(&at("file"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(read(&at("sparse"), 1000).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    for bad in ["missing", "fifo", "circle", "magic", "program", "."] {
        assert!(read(&at(bad), 1 << 30).is_err(), "{bad}");
    }
    assert!(read(Path::new("/dev/zero"), 1000).is_err());
}
