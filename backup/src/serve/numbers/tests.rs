use super::*;

#[test]
fn what_is_overdue_is_among_the_first() {
    let job = |name: &str, since: Option<&str>| {
        serde_json::json!({
            "name": name, "kind": "paths", "schedule": "@daily", "overdue_since": since,
            "save": {"failures": 0},
        })
    };
    let overdue = Some("2026-11-30T03:00:00Z");
    let report: Report = serde_json::from_value(serde_json::json!({
        "time": "2026-11-30T14:00:00Z", "host": "machine", "well": false,
        "broken": [], "ailments": ["c is overdue"], "notes": [],
        "jobs": [job("a", None), job("b", None), job("c", overdue), job("d", overdue)],
    }))
    .unwrap();
    let numbers = numbers(&report, report.time, Vec::new());
    let names: Vec<_> = numbers.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["c", "d", "a", "b"]);
}
