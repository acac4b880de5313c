use super::*;

fn version(key: &str, is_marker: bool) -> ObjectVersion {
    ObjectVersion {
        key: key.to_owned(),
        version: "v".to_owned(),
        is_latest: false,
        is_marker,
        size: 0,
        modified: UNIX_EPOCH,
        tag: None,
    }
}

#[test]
fn markers_that_hide_nothing_are_left_out_but_those_of_the_last_key() {
    let mut versions: Vec<_> = (0..1000).map(|n| version(&format!("a{n}"), true)).collect();
    versions.extend([version("b", false), version("b", true), version("c", true)]);
    drop_markers(&mut versions);
    let keys: Vec<_> = versions.iter().map(|version| version.key.as_str()).collect();
    assert_eq!(keys, ["b", "b", "c"]);
}

#[test]
fn of_the_markers_of_a_key_the_newest_stay() {
    let mut versions = vec![version("b", false), version("c", false)];
    versions.extend(
        (0..1000)
            .map(|number| ObjectVersion { version: format!("m{number}"), ..version("b", true) }),
    );
    for _ in 0..2 {
        drop_markers(&mut versions);
        assert_eq!(versions.len(), 2 + MARKERS_OF_KEY_MAX);
        assert_eq!(versions.last().unwrap().version, format!("m{}", MARKERS_OF_KEY_MAX - 1));
    }
}
