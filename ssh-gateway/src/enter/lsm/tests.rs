use super::*;

#[test]
fn a_label_is_itself_with_or_without_a_mode() {
    for (attribute, is_it) in [
        ("docker-default (enforce)\n", true),
        ("docker-default", true),
        ("docker-default\0", true),
        ("docker-default2 (enforce)", false),
        ("docker-default//child (enforce)", false),
        ("unconfined\n", false),
        ("", false),
    ] {
        assert_eq!(is_label(attribute, "docker-default"), is_it, "{attribute}");
    }
}
