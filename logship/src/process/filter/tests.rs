use super::*;

#[test]
fn a_filter_is_read_and_shown() {
    for text in ["warn", "error,field=sev", "info,field=a.b,unknown=drop", "trace,unknown=drop"] {
        assert_eq!(LevelFilter::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(LevelFilter::parse("warn, unknown=keep").unwrap().to_string(), "warn");
    for (text, said) in [
        ("loud", r#""loud" is none of trace, debug, info, notice, warn, error and fatal"#),
        ("warning", r#""warning" is none of trace"#),
        ("warn,unknown=perhaps", r#"unknown: "perhaps" is none of keep and drop"#),
        ("warn,fields=a", r#""fields=a" is none of field=NAME, unknown=keep and unknown=drop"#),
        ("warn,field=", "field must have 1 to 64 bytes"),
    ] {
        let fault = LevelFilter::parse(text).unwrap_err();
        assert!(fault.starts_with(said), "{fault}");
    }
}

#[test]
fn what_nobody_can_tell_passes_unless_it_is_to_be_dropped() {
    let passes = |text: &str, line: &str| {
        LevelFilter::parse(text).unwrap().with(Parse::Json).passes(line.as_bytes())
    };
    assert!(passes("warn", r#"{"level":"warn"}"#));
    assert!(!passes("warn", r#"{"level":"info"}"#));
    assert!(passes("warn", "free text"));
    assert!(!passes("warn,unknown=drop", "free text"));
    assert!(!passes("warn,field=sev", r#"{"level":"error","sev":"info"}"#));
}
