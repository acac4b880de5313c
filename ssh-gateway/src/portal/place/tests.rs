use proptest::prelude::*;

use super::*;

const HOME: &str = "/home/user";

#[test]
fn a_path_is_absolute_relative_to_home_or_abstract() {
    let file = |path: &str| Ok(Place::File(path.into()));
    let cases: [(&[u8], Result<Place, String>); 7] = [
        (b"/run/app.sock", file("/run/app.sock")),
        (b"app.sock", file("/home/user/app.sock")),
        (b"./@app", file("/home/user/./@app")),
        (b"@app", Ok(Place::Abstract(b"app".to_vec()))),
        (b"", Err("the path of a socket is empty".into())),
        (b"@", Err("the path of a socket is empty".into())),
        (b"/run/a\0b", Err("the path of a socket cannot contain a zero byte".into())),
    ];
    for (path, wanted) in cases {
        assert_eq!(Place::of(path, Path::new(HOME)), wanted, "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn a_path_is_no_longer_than_the_kernel_takes() {
    let longest = [b"/".as_slice(), &[b'x'; PATH_BYTES_MAX - 1]].concat();
    let place = Place::of(&longest, Path::new(HOME)).unwrap();
    assert!(place.address().is_ok());
    assert!(Place::of(&[longest.as_slice(), b"x"].concat(), Path::new(HOME)).is_err());
    assert!(Place::of(&[b'x'; PATH_BYTES_MAX - HOME.len()], Path::new(HOME)).is_err());
    let name = [b"@".as_slice(), &[b'x'; PATH_BYTES_MAX]].concat();
    assert!(Place::of(&name, Path::new(HOME)).unwrap().address().is_ok());
    assert!(Place::of(&[name.as_slice(), b"x"].concat(), Path::new(HOME)).is_err());
}

proptest! {
    #[test]
    fn what_is_accepted_is_an_address(path in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(place) = Place::of(&path, Path::new(HOME)) {
            prop_assert!(place.address().is_ok());
            prop_assert!(place.written().len() <= PATH_BYTES_MAX + 1);
        }
    }
}
