use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::sandbox::Sandbox;

#[test]
fn links_are_never_followed_not_even_at_the_root() {
    let sandbox = Sandbox::new();
    sandbox.file("directory/file", "x");
    symlink("directory", sandbox.path("link")).unwrap();
    let tree = read(&sandbox.path("link"));
    assert_eq!(tree.len(), 1);
    assert_eq!(tree[&b""[..]].kind, Kind::Symlink(b"directory".to_vec()));
}

#[test]
fn a_digest_does_not_tell_holes_from_zeros() {
    let sandbox = Sandbox::new();
    let solid = sandbox.file("solid", [&[0; 200_000][..], b"end"].concat());
    let sparse = sandbox.file("sparse", "");
    let file = File::options().write(true).open(&sparse).unwrap();
    file.write_all_at(b"end", 200_000).unwrap();
    let digest = |path: &Path| match &read(path)[&b""[..]].kind {
        Kind::File(content) => (content.size, content.digest),
        other => panic!("{other:?} is no file"),
    };
    assert_eq!(digest(&solid), digest(&sparse));
}

#[test]
fn a_subtree_forgets_links_to_its_outside() {
    let sandbox = Sandbox::new();
    sandbox.file("a", "x");
    fs::create_dir(sandbox.path("d")).unwrap();
    sandbox.file("d.e", "another");
    fs::hard_link(sandbox.path("a"), sandbox.path("d/b")).unwrap();
    fs::hard_link(sandbox.path("a"), sandbox.path("d/c")).unwrap();
    let whole = read(sandbox.root());
    assert_eq!(whole[&b"d/c"[..]].same_as, Some(b"a".to_vec()));
    let part = subtree(&whole, b"d");
    assert_eq!(part.keys().collect::<Vec<_>>(), [&b""[..], b"b", b"c"]);
    assert_eq!(part[&b"c"[..]].same_as, None);
}

#[test]
fn a_manifest_has_one_line_per_path() {
    let sandbox = Sandbox::new();
    sandbox.file("new\nline", "x");
    let text = manifest(&read(sandbox.root()));
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains(r#""new\nline" file 1 "#), "{text}");
}
