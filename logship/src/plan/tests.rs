use super::*;
use crate::process::multiline::Multiline;
use crate::rule::Patterns;
use crate::source::Parse;

fn container(labels: &[(&str, &str)]) -> Container {
    Container {
        id: "c".repeat(64),
        name: "shop-web-1".to_owned(),
        image_ref: "web:2".to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Container::default()
    }
}

fn planner(lines: LineRule) -> Planner {
    Planner {
        host: "here".to_owned(),
        rules: vec![EngineRule {
            name: "source[1]".to_owned(),
            include: Patterns::new(&["shop-*".to_owned()]).unwrap(),
            label_fields: vec!["team".to_owned()],
            lines,
            ..EngineRule::default()
        }],
        sinks: vec!["archive".to_owned(), "syslog".to_owned()],
        secrets: BTreeMap::from([("sid".to_owned(), Rule::new("sid", "sid=.*").unwrap())]),
    }
}

fn limited() -> LineRule {
    LineRule {
        process: Arc::new(ProcessSettings {
            multiline: Some(Multiline::parse("java").unwrap()),
            rate: Some(Rate::parse("100/s").unwrap()),
            redact: Redaction::new(Rule::preset("email").unwrap()),
            ..ProcessSettings::default()
        }),
        fields: BTreeMap::from([("tier".to_owned(), "web".to_owned())]),
        sinks: Some(vec!["archive".to_owned()]),
        ..LineRule::default()
    }
}

fn faults(plan: &Plan) -> Vec<String> {
    plan.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_rule_that_takes_a_container_decides_and_its_facts_are_told() {
    let labels = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web")];
    let plan = planner(LineRule::default()).plan(&container(&labels));
    assert_eq!((plan.verdict, plan.rule.as_deref()), (Verdict::Ship, Some("source[1]")));
    assert_eq!(plan.meta.key.0, format!("engine:{}", "c".repeat(64)));
    let Origin::Engine { container, image, project, service, .. } = &plan.meta.origin else {
        panic!("{:?}", plan.meta.origin)
    };
    assert_eq!((container.as_str(), image.as_str()), ("shop-web-1", "web:2"));
    assert_eq!((project.as_deref(), service.as_deref()), (Some("shop"), Some("web")));
    assert!(plan.process.is_plain() && plan.meta.sinks.is_none());

    let mut other = self::container(&[]);
    other.name = "db".to_owned();
    let plan = planner(LineRule::default()).plan(&other);
    assert_eq!((plan.verdict, plan.rule), (Verdict::NoRule, None));
}

#[test]
fn a_label_may_disable_and_refine() {
    let plan = planner(limited()).plan(&container(&[("chores.logship.enable", "false")]));
    assert_eq!(plan.verdict, Verdict::Disabled);
    let plan = planner(limited()).plan(&container(&[
        ("team", "a"),
        ("chores.logship.parse", "json"),
        ("chores.logship.multiline", "none"),
        ("chores.logship.rate", "10/s"),
        ("chores.logship.redact", "card,sid"),
        ("chores.logship.fields", "shift=night"),
    ]));
    assert_eq!(faults(&plan), [""; 0]);
    assert_eq!(plan.meta.parse, Parse::Json);
    assert!(plan.process.multiline.is_none());
    assert_eq!(plan.process.rate.unwrap().to_string(), "10/s");
    assert_eq!(plan.process.redact.names(), ["email", "card", "sid"]);
    let fields: Vec<_> = plan.meta.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(fields, ["shift=night", "team=a", "tier=web"]);
}

#[test]
fn a_label_cannot_undo_what_the_operator_set() {
    let plan = planner(limited()).plan(&container(&[
        ("chores.logship.rate", "1000/s"),
        ("chores.logship.sinks", "syslog"),
        ("chores.logship.fields", "tier=db"),
        ("chores.logship.redact", "nothing"),
    ]));
    assert_eq!(
        faults(&plan),
        [
            "label chores.logship.sinks: there is no sink syslog; there are archive",
            "label chores.logship.fields: the configuration sets tier already",
            "label chores.logship.rate: 1000/s is above 100/s, which the configuration sets",
            r#"label chores.logship.redact: "nothing" is none of email, card, bearer, aws-key, jwt, private-key, url-password, password, ipv4, ipv6, mac and sid"#,
        ]
    );
    assert_eq!(plan.process.rate.unwrap().to_string(), "100/s");
    assert_eq!(plan.meta.sinks.unwrap(), ["archive"]);
    assert_eq!(plan.meta.fields.get("tier").unwrap(), "web");
    assert_eq!(plan.process.redact.names(), ["email"]);
}

#[test]
fn a_level_can_only_be_raised_and_looks_at_lines_as_they_are_parsed() {
    let lines = |text: &str| LineRule {
        process: Arc::new(ProcessSettings {
            level: Some(LevelFilter::parse(text).unwrap()),
            ..ProcessSettings::default()
        }),
        ..LineRule::default()
    };
    let plan = |set: &str, labels: &[(&str, &str)]| planner(lines(set)).plan(&container(labels));
    let raised =
        plan("info", &[("chores.logship.level", "error"), ("chores.logship.parse", "klog")]);
    assert_eq!(faults(&raised), [""; 0]);
    let klog = |text: &str| LevelFilter::parse(text).unwrap().with(Parse::Klog);
    assert_eq!(raised.process.labelled, [klog("info"), klog("error")]);
    let same = plan("info", &[("chores.logship.parse", "json")]);
    assert_eq!(same.process.labelled[0].parse, Parse::Json);
    // Whatever a label says of fields and forms, what is set counts.
    for labels in [
        [("chores.logship.level", "warn,field=nosuch"), ("chores.logship.parse", "none")],
        [("chores.logship.level", "warn"), ("chores.logship.parse", "klog")],
    ] {
        let plan = plan("warn", &labels);
        assert_eq!(plan.process.level, Some(LevelFilter::parse("warn").unwrap()));
        let mut processor = crate::process::Processor::new(plan.process.clone());
        let stream = crate::record::Stream::Stdout;
        processor.lines(stream, 1, b"INFO a\n{\"level\":\"info\"}\nERROR b\n", 0);
        let taken = processor.take().unwrap();
        let lines = taken.block.records().filter(|record| !record.flags.is_control());
        let lines: Vec<_> = lines.map(|record| record.line.to_vec()).collect();
        assert!(!lines.contains(&b"INFO a".to_vec()), "{labels:?}");
    }
    for (set, wanted) in
        [("warn", "info"), ("warn,unknown=drop", "error"), ("warn,field=sev", "error")]
    {
        let plan = plan(set, &[("chores.logship.level", wanted)]);
        let said = format!(
            "label chores.logship.level: {wanted} lets more through than {set}, which is set: both count"
        );
        assert_eq!(faults(&plan), [said]);
        assert_eq!(plan.process.level.as_ref().unwrap().to_string(), set);
    }
}

#[test]
fn faults_of_labels_are_told_and_the_rest_of_them_still_counts() {
    let plan = planner(LineRule::default()).plan(&container(&[
        ("chores.logship.parse", "logfmt"),
        ("chores.logship.pars", "json"),
        ("chores.logship.sinks", "archive,nowhere"),
    ]));
    assert_eq!(plan.faults.len(), 2);
    assert_eq!(plan.meta.parse, Parse::Logfmt);
    assert_eq!(plan.meta.sinks.unwrap(), ["archive"]);
}
