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
fn a_file_has_a_name_a_stem_and_a_path() {
    let of = |path: &str| {
        let origin = Origin::File { path: path.to_owned(), volume: None, inode: 7 };
        let meta = SourceMeta { origin, ..meta("web") };
        let template = Template::parse("{name} {stem} {path} {container}").unwrap();
        (template.expand(&meta, Stream::File, 0), template.expand_path(&meta, Stream::File, 0))
    };
    let (text, path) = of("/logs/a/app.log");
    assert_eq!(text, "app.log app logs/a/app.log none");
    assert_eq!(path, "app.log app logs_a_app.log none");
    assert_eq!(of("/logs/.hidden").1, "_hidden _hidden logs_.hidden none");
    assert_eq!(
        of("/catalina.2026.out").0,
        "catalina.2026.out catalina.2026 catalina.2026.out none"
    );
    let template = Template::parse("{stem} {path}").unwrap();
    assert_eq!(template.expand(&meta("web.1"), Stream::Stdout, 0), "web.1 web.1");
    // However deep it is, no peer chokes on it, and it stays its own.
    let (long, other) =
        (of(&format!("/{}", "a/".repeat(2000))), of(&format!("/{}", "a/".repeat(1999))));
    assert!(long.0.len() <= COMPONENT_BYTES_MAX + " none".len() * 3 && long != other, "{long:?}");
}

#[test]
fn what_is_no_placeholder_is_named() {
    let error = Template::parse("a{b}").unwrap_err().to_string();
    assert_eq!(
        error,
        "{b} is no placeholder; there are {name}, {stem}, {path}, {container}, {id}, {project}, {service}, {stream}, {host} and {date}"
    );
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

#[test]
fn a_name_cannot_be_taken_for_a_rotated_file_of_another() {
    let template = Template::parse("/logs/v1.000001/{container}").unwrap();
    let path = |name: &str| template.expand_path(&meta(name), Stream::Stdout, 0);
    assert_eq!(path("web.000001"), "/logs/v1.000001/web.000001_");
    assert_eq!(path("web.0000012.zst"), "/logs/v1.000001/web.0000012.zst_");
    assert_eq!(path("web.00001"), "/logs/v1.000001/web.00001");
}

#[test]
fn a_long_name_leaves_room_for_the_suffix_of_a_rotation_and_stays_its_own() {
    let template = Template::parse("/logs/{host}/{container}-{project}.log").unwrap();
    let path = |name: &str| template.expand_path(&meta(name), Stream::Stdout, 0);
    let (long, other) = (path(&"é".repeat(300)), path(&format!("{}x", "é".repeat(300))));
    assert_eq!(long, path(&"é".repeat(300)));
    assert_ne!(long, other);
    for path in [long, other] {
        let name = path.strip_prefix("/logs/h1/").unwrap();
        assert!(format!("{name}.000001.zst").len() <= 255, "{name}");
        assert!(name.starts_with("éé"));
    }
}

proptest! {
    #[test]
    fn no_name_leaves_its_component(name in any::<String>()) {
        let path = Template::parse("{container}").unwrap().expand_path(&meta(&name), Stream::Stdout, 0);
        prop_assert!(!path.is_empty() && !path.starts_with('.'));
        prop_assert!(!path.contains(['/', '\0', '\n']));
        prop_assert!(path.len() <= COMPONENT_BYTES_MAX && !is_like_rotated(&path));
    }
}
