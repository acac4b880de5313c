use super::*;

#[test]
fn the_keys_of_a_repository_are_valid() {
    for key in
        ["repo.json", "packs/ab/0123.tar.zst.age", "snapshots/20260822T101112Z-ab.json", "a..b/…"]
    {
        assert!(is_valid_key(key), "{key}");
    }
}

#[test]
fn a_key_that_leaves_the_store_or_cannot_be_a_name_is_refused() {
    let long_part = "n".repeat(PART_BYTES_MAX + 1);
    let long_key = format!("{0}/{0}/{0}", "n".repeat(PART_BYTES_MAX));
    let deep_key = "n/".repeat(PARTS_MAX) + "n";
    for key in [
        "",
        "/",
        "/etc/passwd",
        "a/../b",
        "..",
        "a/./b",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "packs/.x.tmp-0123456789abcdef",
        &long_part,
        &long_key,
        &deep_key,
    ] {
        assert!(!is_valid_key(key), "{key:?}");
    }
}

#[test]
fn a_listing_is_about_what_begins_with_its_prefix_and_the_folders_on_the_way() {
    for (prefix, folder) in
        [("", ""), ("packs", ""), ("packs/", "packs"), ("packs/ab/c", "packs/ab")]
    {
        assert_eq!(Wanted::below(prefix).map(|wanted| wanted.folder), Some(folder));
    }
    for prefix in ["../", "//", "a//", "a/../b"] {
        assert!(Wanted::below(prefix).is_none(), "{prefix}");
    }
    let wanted = Wanted::below("packs/a").unwrap();
    assert!(wanted.leads("packs") && !wanted.has("packs"));
    assert!(wanted.leads("packs/ab") && wanted.has("packs/ab"));
    assert!(!wanted.leads("packs/b") && !wanted.leads("index") && !wanted.leads("packs/a/.."));
    assert_eq!((join("", "a"), join("a/b", "c")), ("a".to_owned(), "a/b/c".to_owned()));
}
