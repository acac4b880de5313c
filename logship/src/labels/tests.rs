use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
}

#[test]
fn labels_are_read_into_what_they_mean() {
    let mut all = labels(&[
        ("enable", "true"),
        ("sinks", "archive, syslog"),
        ("parse", "json"),
        ("multiline", "java"),
        ("redact", "email,card"),
        ("level", "warn,field=sev"),
        ("rate", "100/s,burst=500"),
        ("fields", "team=shop, tier = web"),
    ]);
    all.insert("com.example.other".to_owned(), "left alone".to_owned());
    let (overrides, faults) = read(&all);
    assert_eq!(faults, []);
    assert_eq!(overrides.enable, Some(true));
    assert_eq!(overrides.sinks.unwrap(), ["archive", "syslog"]);
    assert_eq!(overrides.parse, Some(Parse::Json));
    assert_eq!(overrides.multiline.unwrap().unwrap().text, "java");
    assert_eq!(overrides.redact, ["email", "card"]);
    assert_eq!(overrides.level.unwrap().to_string(), "warn,field=sev");
    assert_eq!(overrides.rate.unwrap().to_string(), "100/s,burst=500");
    let fields: Vec<_> = overrides.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(fields, ["team=shop", "tier=web"]);
    let (overrides, faults) = read(&labels(&[("multiline", "none")]));
    assert!(faults.is_empty() && overrides.multiline.unwrap().is_none());
}

#[test]
fn every_fault_names_the_label_and_what_is_allowed() {
    for (key, value, said) in [
        ("enable", "yes", r#"label chores.logship.enable: "yes" is none of true and false"#),
        (
            "parse",
            "xml",
            r#"label chores.logship.parse: "xml" is none of none, json, logfmt, nginx, apache, syslog, klog and regex:PATTERN"#,
        ),
        (
            "parse",
            "regex:a(b)",
            r#"label chores.logship.parse: "a(b)" names no group: write (?P<name>…) around what is to become a field"#,
        ),
        (
            "level",
            "loud",
            r#"label chores.logship.level: "loud" is none of trace, debug, info, notice, warn, error and fatal"#,
        ),
        (
            "rate",
            "fast",
            r#"label chores.logship.rate: "fast" is no rate: give for example 1000/s, 500/m, or 1000/s,burst=5000,sample=100"#,
        ),
        (
            "sinks",
            "a,,b",
            r#"label chores.logship.sinks: "a,,b" is no list of names: give for example a,b"#,
        ),
        (
            "fields",
            "team",
            r#"label chores.logship.fields: "team" is no field: give for example team=a,tier=web"#,
        ),
        (
            "fields",
            "seq=1",
            "label chores.logship.fields: every record has a field seq already: choose another name",
        ),
        (
            "multiline",
            "",
            "label chores.logship.multiline: it is empty; give java, python, go, ruby, dotnet, none, or a pattern",
        ),
        (
            "sink",
            "a",
            "label chores.logship.sink: there is no such key; there are enable, sinks, parse, multiline, redact, level, rate, fields, reopen, rotate",
        ),
    ] {
        let (_, faults) = read(&labels(&[(key, value)]));
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, [said]);
    }
    let (_, faults) = read(&labels(&[("multiline", "(")]));
    let fault = faults.first().unwrap().to_string();
    assert!(fault.starts_with(r#"label chores.logship.multiline: "(" is no usable pattern: "#));
    assert!(!fault.contains('\n'), "{fault}");
}

#[test]
fn rotation_is_read_from_two_labels_and_operators_know_what_labels_may_not_say() {
    let (overrides, faults) =
        read(&labels(&[("rotate", "size=10MB,keep=5"), ("reopen", "signal:USR1")]));
    assert_eq!(faults, []);
    assert_eq!(overrides.rotate.size, Some(10_000_000));
    assert_eq!(overrides.reopen, Some(Reopen::Signal("USR1")));
    let wishes = rotation(&labels(&[("rotate", "keep=5"), ("reopen", "name")]));
    assert_eq!((wishes.keep, wishes.reopen), (Some(5), Some(Reopen::Name)));
    for (key, value, said) in [
        ("rotate", "append=true", "append: only the configuration can say that"),
        ("rotate", "reopen=name", "reopen: give it as the label chores.logship.reopen"),
        ("reopen", "signal:TERM", "\"TERM\" is none of HUP, USR1, USR2, WINCH and CONT"),
    ] {
        let (_, faults) = read(&labels(&[(key, value)]));
        assert_eq!(faults[0].fault, said);
    }
}
