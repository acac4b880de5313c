use super::*;

fn patterns(texts: &[&str]) -> Patterns {
    Patterns::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_rule_takes_by_name_image_and_label() {
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let takes = |rule: &EngineRule| rule.takes("shop-web-1", "registry:5000/web:2", &labels);
    assert!(takes(&EngineRule::default()));
    for (include, exclude, taken) in [
        (&["shop-*"][..], &[][..], true),
        (&["*/web:*"], &[], true),
        (&["other-*"], &[], false),
        (&[], &["*web*"], false),
        (&["shop-*"], &["other"], true),
    ] {
        let rule = EngineRule {
            include: patterns(include),
            exclude: patterns(exclude),
            ..EngineRule::default()
        };
        assert_eq!(takes(&rule), taken, "{include:?} {exclude:?}");
    }
    for (label, value, taken) in [
        ("team", None, true),
        ("team", Some("a"), true),
        ("team", Some("b"), false),
        ("x", None, false),
    ] {
        let labels = vec![(label.to_owned(), value.map(str::to_owned))];
        assert_eq!(takes(&EngineRule { labels, ..EngineRule::default() }), taken, "{label}");
    }
}

#[test]
fn fields_must_not_hide_what_records_have() {
    assert_eq!(field_fault("team", "a"), None);
    for (name, value, said) in [
        ("", "a", "is no field name"),
        ("a b", "a", "is no field name"),
        ("seq", "a", "every record has a field seq already"),
        ("a", &"x".repeat(2000) as &str, "is longer than 1024 bytes"),
    ] {
        let fault = field_fault(name, value).unwrap();
        assert!(fault.contains(said), "{fault}");
    }
}
