use serde_json::json;

use super::*;

fn verdict(purpose: Purpose, code: i32, summary: &Value) -> Verdict {
    let summary = (!summary.is_null()).then(|| summary.clone());
    judge(purpose, &Ended { end: End::Code(code), summary }).verdict
}

#[test]
fn only_a_snapshot_that_is_named_is_a_backup() {
    let good = json!({"snapshot": "abcdef0123", "state": "complete", "suspicious": false, "warning_count": 0});
    assert_eq!(verdict(Purpose::Save, 0, &good), Verdict::Good);
    let warned = json!({"snapshot": "abcdef0123", "state": "warnings", "warning_count": 2});
    assert_eq!(verdict(Purpose::Save, 3, &warned), Verdict::Warnings);
    let suspicious = json!({"snapshot": "abcdef0123", "state": "warnings", "suspicious": true});
    assert_eq!(verdict(Purpose::Save, 3, &suspicious), Verdict::Suspicious);
    for summary in [
        json!(null),
        json!({}),
        json!({"snapshot": null, "dry_run": true}),
        json!({"snapshot": "abcdef0123", "state": "failed"}),
        json!([]),
    ] {
        assert_eq!(verdict(Purpose::Save, 0, &summary), Verdict::Failed, "{summary}");
    }
    assert_eq!(verdict(Purpose::Save, 1, &good), Verdict::Failed);
    assert_eq!(verdict(Purpose::Save, 2, &json!(null)), Verdict::Unusable);
    assert_eq!(verdict(Purpose::Save, 130, &good), Verdict::Failed, "nobody had asked");
    assert!(!Verdict::Suspicious.is_good() && Verdict::Warnings.is_good());
    assert!(!Verdict::Unusable.may_pass() && Verdict::TimedOut.may_pass());
}

#[test]
fn a_drill_is_good_failed_or_could_not_be_made() {
    assert_eq!(verdict(Purpose::Drill, 0, &json!({"outcome": "good"})), Verdict::Good);
    assert_eq!(verdict(Purpose::Drill, 1, &json!({"outcome": "failed"})), Verdict::NotGood);
    assert_eq!(verdict(Purpose::Drill, 1, &json!(null)), Verdict::Failed);
    assert_eq!(verdict(Purpose::Drill, 0, &json!(null)), Verdict::Failed);
}

#[test]
fn the_other_runs_are_judged_by_their_exit_code() {
    assert_eq!(verdict(Purpose::Retain, 0, &json!(null)), Verdict::Good);
    assert_eq!(verdict(Purpose::Retain, 3, &json!(null)), Verdict::Frozen);
    assert_eq!(verdict(Purpose::Retain, 1, &json!(null)), Verdict::Failed);
    assert_eq!(verdict(Purpose::Check, 1, &json!({"event": "summary"})), Verdict::NotGood);
    assert_eq!(verdict(Purpose::Check, 1, &json!(null)), Verdict::Failed);
    assert_eq!(verdict(Purpose::Check, 3, &json!({"event": "summary"})), Verdict::Warnings);
    assert_eq!(verdict(Purpose::Prune, 0, &json!(null)), Verdict::Good);
}

#[test]
fn a_prune_that_met_damage_says_which_and_is_heard_of() {
    let summary = json!({"event": "summary", "damaged_packs": 2, "refused_objects": 0, "unlisted_folders": 1});
    let judged = judge(Purpose::Prune, &Ended { end: End::Code(3), summary: Some(summary) });
    assert!(judged.verdict == Verdict::Warnings && judged.verdict.is_bad(Purpose::Prune));
    assert!(!judged.verdict.is_bad(Purpose::Check));
    assert!(judged.text.contains("(damaged packs 2, unlisted folders 1)"), "{}", judged.text);
    assert_eq!(verdict(Purpose::Prune, 3, &json!(null)), Verdict::Failed);
}

#[test]
fn what_did_not_end_by_itself_is_no_backup() {
    let summary = Some(json!({"snapshot": "abcdef0123", "state": "complete"}));
    for (end, expected) in [
        (End::Signal(9), Verdict::Failed),
        (End::TimedOut(Duration::from_secs(60)), Verdict::TimedOut),
        (End::Stuck(Duration::from_secs(60)), Verdict::TimedOut),
        (End::Interrupted, Verdict::Interrupted),
        (End::NotStarted("no memory".to_owned()), Verdict::Failed),
    ] {
        let judged = judge(Purpose::Save, &Ended { end, summary: summary.clone() });
        assert_eq!((judged.verdict, judged.snapshot), (expected, None));
    }
}
