use super::*;
use crate::repository::tests::snapshot;
use crate::snapshot::{Source, SourceVolume};

#[test]
fn a_path_holds_itself_and_what_is_below_it_but_no_longer_name() {
    let selection = Selection { paths: vec![b"a/b".to_vec()], ..Selection::default() };
    for (path, held) in [("a/b", true), ("a/b/c", true), ("a/bc", false), ("a", false), ("", false)]
    {
        assert_eq!(selection.holds(path.as_bytes()), held, "{path}");
    }
    assert!(Selection::default().holds(b"") && Selection::default().holds(b"x"));
}

#[test]
fn strip_puts_a_source_at_the_target_itself() {
    let selection = Selection { strip: Some(b"srv/a".to_vec()), ..Selection::default() };
    assert!(selection.holds(b"srv/a/x") && !selection.holds(b"srv/ab") && !selection.holds(b"srv"));
    assert_eq!(selection.place(b"srv/a"), b"");
    assert_eq!(selection.place(b"srv/a/x/y"), b"x/y");
    let root = Selection { strip: Some(Vec::new()), ..Selection::default() };
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
fn typed_paths_are_made_plain_and_empty_ones_and_parents_are_refused() {
    for (typed, path) in
        [("/a/b/", "a/b"), ("a", "a"), ("/", ""), ("//a/./b//", "a/b"), ("/a/..b/", "a/..b")]
    {
        assert_eq!(typed_path(typed.as_bytes()).unwrap(), path.as_bytes(), "{typed}");
    }
    for typed in ["", "/a/../b", ".."] {
        assert!(matches!(typed_path(typed.as_bytes()), Err(SelectError::Path(_))), "{typed}");
    }
}

#[test]
fn source_and_paths_together_choose_what_is_in_both() {
    let selection = Selection {
        paths: vec![b"srv/a/x".to_vec(), b"srv/b".to_vec()],
        source: Some(b"srv/a".to_vec()),
        strip: None,
    };
    for (path, held) in [("srv/a/x/y", true), ("srv/a/z", false), ("srv/b/x", false)] {
        assert_eq!(selection.holds(path.as_bytes()), held, "{path}");
    }
}

#[test]
fn a_choice_is_whole_when_it_leaves_nothing_of_the_target_out() {
    let strip = Some(b"data".to_vec());
    let whole = |paths: &[&[u8]], source: Option<&[u8]>, strip: &Option<Vec<u8>>| {
        let paths = paths.iter().map(|path| path.to_vec()).collect();
        Selection { paths, source: source.map(<[u8]>::to_vec), strip: strip.clone() }.is_whole()
    };
    assert!(whole(&[], None, &None) && whole(&[], Some(b"data"), &strip));
    assert!(whole(&[b"data"], None, &strip) && whole(&[b""], None, &None));
    assert!(!whole(&[b"data/x"], None, &strip) && !whole(&[b"data"], None, &None));
    assert!(!whole(&[], Some(b"data"), &None));
}
