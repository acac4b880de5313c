use std::os::unix::ffi::OsStrExt as _;

use super::*;

#[test]
fn a_wish_is_read_by_whoever_ships_until_it_is_withdrawn() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(Wanted::read(state.path()), None);
    let wanted = Wanted::ask(state.path(), vec!["/logs/app.log".into()]).unwrap();
    assert_eq!(Wanted::read(state.path()), Some(wanted.clone()));
    let name: PathBuf = std::ffi::OsStr::from_bytes(b"/logs/\xff.log").into();
    let wanted = Wanted::ask(state.path(), vec!["/logs/app.log".into(), name]).unwrap();
    assert_eq!(Wanted::read(state.path()), Some(wanted.clone()));
    assert_eq!(wanted.paths, [Path::new("/logs/app.log")]);
    // Somebody else has asked since.
    let later = Wanted::ask(state.path(), vec!["/logs/b.log".into()]).unwrap();
    wanted.withdraw(state.path());
    assert_eq!(Wanted::read(state.path()), Some(later.clone()));
    later.withdraw(state.path());
    assert!(!state.path().join(FILE).exists());
    fs::write(state.path().join(FILE), r#"{"version":9,"id":1,"paths":[]}"#).unwrap();
    assert_eq!(Wanted::read(state.path()), None);
}
