use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::source::{Parse, SourceKey};

fn meta(container: &str) -> SourceMeta {
    SourceMeta {
        key: SourceKey("engine:0".to_owned()),
        origin: Origin::Engine {
            id: "0123456789abcdef".to_owned(),
            container: container.to_owned(),
            image: "web:1".to_owned(),
            project: Some("shop".to_owned()),
            service: None,
        },
        host: "h1".to_owned(),
        fields: BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    }
}

#[test]
fn placeholders_are_filled_in() {
    let template = Template::parse("{host}/{date}/{project}-{service}/{name}.{stream}-{id}.log");
    let text =
        template.unwrap().expand(&meta("web"), Stream::Stderr, 1_764_000_000 * 1_000_000_000);
    assert_eq!(text, "h1/2025-11-24/shop-none/web.stderr-0123456789ab.log");
}

#[test]
fn what_is_no_placeholder_is_named() {
    assert_eq!(Template::parse("a{b}"), Err(TemplateError::Unknown("b".to_owned())));
    for text in ["{", "}", "a{name", "name}", "}{name}", "{name}}"] {
        assert_eq!(Template::parse(text), Err(TemplateError::Brace(text.to_owned())), "{text}");
    }
}

#[test]
fn a_hostile_name_stays_one_component() {
    let template = Template::parse("/logs/{container}").unwrap();
    let path = |name: &str| template.expand_path(&meta(name), Stream::Stdout, 0);
    assert_eq!(path("../../etc/passwd"), "/logs/_._.._etc_passwd");
    assert_eq!(path(".."), "/logs/_.");
    assert_eq!(path(""), "/logs/_");
    assert_eq!(path("a\nb\0"), "/logs/a_b_");
}

proptest! {
    #[test]
    fn no_name_leaves_its_component(name in any::<String>()) {
        let path = Template::parse("{container}").unwrap().expand_path(&meta(&name), Stream::Stdout, 0);
        prop_assert!(!path.is_empty() && !path.starts_with('.'));
        prop_assert!(!path.contains(['/', '\0', '\n']));
        prop_assert!(path.len() <= PART_BYTES_MAX);
    }
}
