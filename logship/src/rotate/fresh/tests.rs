use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

#[test]
fn a_new_file_is_like_the_old_one_and_replaces_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("app.log.1");
    std::fs::write(&old, "lines\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o4664)).unwrap();
    let old = File::open(&old).unwrap();
    let has_attributes =
        rustix::fs::fsetxattr(&old, c"user.team", b"shop", rustix::fs::XattrFlags::empty()).is_ok();
    let place = File::open(directory.path()).unwrap();
    for is_named in [false, true] {
        let create = || {
            let name = OsStr::new("app.log");
            if is_named {
                create_named_like(&place, name, &old)
            } else {
                Empty::like(&place, &old).and_then(|empty| empty.name(&place, name, &old))
            }
        };
        assert!(create().unwrap());
        assert!(!create().unwrap());
        let new = directory.path().join("app.log");
        let is = std::fs::metadata(&new).unwrap();
        assert_eq!((is.len(), is.mode() & 0o7777), (0, 0o664));
        if has_attributes {
            let mut value = [0; 16];
            let new = File::open(&new).unwrap();
            let length = rustix::fs::fgetxattr(&new, c"user.team", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"shop");
        }
        std::fs::remove_file(new).unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_compressed_file_is_whole_of_the_same_age_or_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log.1");
    let text = "one line after another\n".repeat(100_000);
    std::fs::write(&path, &text).unwrap();
    let source = File::open(&path).unwrap();
    let place = File::open(directory.path()).unwrap();
    let name = OsStr::new("app.log.1.zst");
    let stop = Shutdown::new();
    let made = directory.path().join(name);
    let whole = compress(&place, name, &source, &stop).unwrap();
    assert!(whole.is_named || !made.exists());
    whole.name(&place, name).unwrap();
    assert_eq!(zstd::decode_all(File::open(&made).unwrap()).unwrap(), text.as_bytes());
    let times = [&path, &made].map(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    assert_eq!(times[0], times[1]);
    // What has the name already is somebody's.
    let again = compress(&place, name, &source, &stop).and_then(|whole| whole.name(&place, name));
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    std::fs::remove_file(&made).unwrap();
    stop.request();
    assert!(compress(&place, name, &source, &stop).is_err());
    assert!(!made.exists());
}

#[test]
fn the_owner_is_given_last_which_needs_no_right_over_files_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("app.log.1"), "lines\n").unwrap();
    if std::os::unix::fs::chown(path("app.log.1"), Some(1234), Some(4321)).is_err() {
        // Only root can give files away.
        return;
    }
    std::fs::set_permissions(path("app.log.1"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let old = File::open(path("app.log.1")).unwrap();
    let place = File::open(directory.path()).unwrap();
    let made = std::thread::scope(|scope| {
        let make = || {
            // Of this thread alone.
            let mut rights = rustix::thread::capabilities(None).unwrap();
            rights.effective.remove(rustix::thread::CapabilitySet::FOWNER);
            rustix::thread::set_capabilities(None, rights).unwrap();
            Empty::like(&place, &old)?.name(&place, OsStr::new("app.log"), &old)?;
            let packed = OsStr::new("app.log.1.zst");
            compress(&place, packed, &old, &Shutdown::new())?.name(&place, packed)
        };
        scope.spawn(make).join().unwrap()
    });
    made.unwrap();
    for name in ["app.log", "app.log.1.zst"] {
        let is = std::fs::metadata(path(name)).unwrap();
        assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (1234, 4321, 0o640), "{name}");
    }
}
