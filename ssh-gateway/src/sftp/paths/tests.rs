use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn with(
    links: &[(&str, &str)],
    files: &[&str],
) -> impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Errno> + use<> {
    let links: BTreeMap<Vec<u8>, Vec<u8>> =
        links.iter().map(|(name, to)| (name.as_bytes().to_vec(), to.as_bytes().to_vec())).collect();
    let files: Vec<Vec<u8>> = files.iter().map(|name| name.as_bytes().to_vec()).collect();
    move |path| match links.get(path) {
        Some(target) => Ok(Some(target.clone())),
        None if files.iter().any(|file| file == path) => Ok(None),
        None => Err(Errno::NOENT),
    }
}

#[test]
fn names_become_absolute() {
    let links = [("/link", "home/user"), ("/home/user/up", ".."), ("/abs", "/home"), ("/me", "me")];
    let files = ["/home", "/home/user", "/home/user/file"];
    let cases: [(&str, Result<&str, Errno>); 20] = [
        ("", Ok("/home/user")),
        (".", Ok("/home/user")),
        ("..", Ok("/home")),
        ("file", Ok("/home/user/file")),
        ("./file", Ok("/home/user/file")),
        ("up/user", Ok("/home/user")),
        ("new", Ok("/home/user/new")),
        ("new/", Err(Errno::NOENT)),
        ("new/deep", Err(Errno::NOENT)),
        ("/", Ok("/")),
        ("//", Ok("/")),
        ("/..", Ok("/")),
        ("/../../home", Ok("/home")),
        ("/home/", Ok("/home")),
        ("/home//user/./file", Ok("/home/user/file")),
        ("/link", Ok("/home/user")),
        ("/link/file", Ok("/home/user/file")),
        ("/abs/user", Ok("/home/user")),
        ("/me", Err(Errno::LOOP)),
        ("/new", Ok("/new")),
    ];
    for (path, expected) in cases {
        let start: &[u8] = if path.starts_with('/') { b"" } else { b"/home/user" };
        let found = resolve(path.as_bytes(), start.to_vec(), with(&links, &files));
        assert_eq!(found, expected.map(|path| path.as_bytes().to_vec()), "{path:?}");
    }
}

#[test]
fn links_that_grow_come_to_an_end() {
    let found = resolve(b"/a", Vec::new(), |_| Ok(Some(b"a/a/a/a/a/a/a/a".to_vec())));
    assert!(matches!(found, Err(Errno::LOOP | Errno::NAMETOOLONG)), "{found:?}");
    let long = vec![b'x'; 3000];
    let found = resolve(b"/a/b", Vec::new(), |path| {
        Ok(path.ends_with(b"a").then(|| [b"a/", long.as_slice()].concat()))
    });
    assert!(matches!(found, Err(Errno::LOOP | Errno::NAMETOOLONG)), "{found:?}");
}

proptest! {
    #[test]
    fn a_resolved_name_is_absolute_and_bounded(path in "[a./]{0,40}") {
        if let Ok(found) = resolve(path.as_bytes(), b"/w".to_vec(), |_| Ok(None)) {
            prop_assert!(found.starts_with(b"/"));
            prop_assert!(found.len() <= PATH_BYTES_MAX);
            prop_assert!(!found.windows(2).any(|pair| pair == b"//"));
        }
    }
}

#[test]
fn tildes() {
    let home = Path::new("/home/me");
    let of = |user: &[u8]| (user == b"you").then(|| b"/srv/you".to_vec());
    let cases: [(&str, Option<&str>); 8] = [
        ("~", Some("/home/me")),
        ("~/", Some("/home/me/")),
        ("~/a/b", Some("/home/me/a/b")),
        ("~you", Some("/srv/you")),
        ("~you/a", Some("/srv/you/a")),
        ("~nobody/a", None),
        ("a/~", Some("a/~")),
        ("", Some("")),
    ];
    for (path, expected) in cases {
        let found = expand(path.as_bytes(), home, of);
        assert_eq!(found, expected.map(|path| path.as_bytes().to_vec()), "{path:?}");
    }
}
