use super::*;
use crate::repository::tests::snapshot;
use crate::snapshot::{Source, SourceVolume};

#[test]
fn a_path_holds_itself_and_what_is_below_it_but_no_longer_name() {
    let selection = Selection { paths: vec![b"a/b".to_vec()], strip: None };
    for (path, held) in [("a/b", true), ("a/b/c", true), ("a/bc", false), ("a", false), ("", false)]
    {
        assert_eq!(selection.holds(path.as_bytes()), held, "{path}");
    }
    assert!(Selection::default().holds(b"") && Selection::default().holds(b"x"));
}

#[test]
fn strip_puts_a_source_at_the_target_itself() {
    let selection = Selection { paths: Vec::new(), strip: Some(b"srv/a".to_vec()) };
    assert!(selection.holds(b"srv/a/x") && !selection.holds(b"srv/ab") && !selection.holds(b"srv"));
    assert_eq!(selection.place(b"srv/a"), b"");
    assert_eq!(selection.place(b"srv/a/x/y"), b"x/y");
    let root = Selection { paths: Vec::new(), strip: Some(Vec::new()) };
    assert_eq!(root.place(b"etc/hosts"), b"etc/hosts");
}

#[test]
fn the_one_source_is_the_only_one_or_the_named_one() {
    let mut snapshot = snapshot("a", "2026-01-01T00:00:00Z");
    let source =
        |path: &str, volume: Option<SourceVolume>| Source { path: path.to_owned(), volume };
    snapshot.sources = vec![source("/srv/a", None)];
    assert_eq!(one_source(&snapshot, None).unwrap(), b"srv/a");
    let volume = SourceVolume {
        kind: "volume".to_owned(),
        name: "data".to_owned(),
        driver: String::new(),
        labels: Default::default(),
        options: Default::default(),
    };
    snapshot.sources.push(source("/var/b", Some(volume)));
    assert!(matches!(
        one_source(&snapshot, None),
        Err(SelectError::SeveralSources { count: 2, .. })
    ));
    assert_eq!(one_source(&snapshot, Some("data")).unwrap(), b"var/b");
    assert_eq!(one_source(&snapshot, Some("/srv/a")).unwrap(), b"srv/a");
    let error = one_source(&snapshot, Some("x")).unwrap_err().to_string();
    assert!(error.contains("/var/b (volume data)"), "{error}");
}

#[test]
fn typed_paths_lose_their_outer_slashes() {
    for (typed, path) in [("/a/b/", "a/b"), ("a", "a"), ("/", ""), ("", "")] {
        assert_eq!(typed_path(typed.as_bytes()), path.as_bytes());
    }
}
