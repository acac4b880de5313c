use std::time::UNIX_EPOCH;

use super::*;

fn version(size: u64, tag: Option<&str>) -> ObjectVersion {
    ObjectVersion {
        key: "packs/a".to_owned(),
        version: "v".to_owned(),
        is_latest: false,
        is_marker: false,
        size,
        modified: UNIX_EPOCH,
        tag: tag.map(str::to_owned),
    }
}

#[test]
fn tags_that_differ_say_nothing_of_the_content() {
    for (size, tag, other_size, other_tag, same) in [
        (1, Some("a"), 1, Some("a"), Some(true)),
        (1, Some("a"), 1, Some("b"), None),
        (1, Some("a"), 1, Some("a-2"), None),
        (1, None, 1, None, None),
        (1, Some("a"), 1, None, None),
        (1, Some("a"), 2, Some("a"), Some(false)),
        (1, None, 2, None, Some(false)),
    ] {
        let (one, other) = (version(size, tag), version(other_size, other_tag));
        assert_eq!(one.has_content_of(&other), same, "{one:?} {other:?}");
        assert_eq!(other.has_content_of(&one), same);
    }
}
