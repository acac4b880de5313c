use super::*;
use crate::serve::fixtures;

fn now() -> Timestamp {
    "2026-11-30T14:00:00Z".parse().unwrap()
}

fn report(jobs: Vec<JobReport>) -> Report {
    Report { well: false, jobs, ..fixtures::report("machine") }
}

fn ended(verdict: Verdict) -> LaneReport {
    LaneReport {
        last_verdict: Some(verdict),
        last_text: Some("as told".to_owned()),
        ..LaneReport::default()
    }
}

fn job(verdict: Verdict) -> JobReport {
    JobReport {
        name: "web".to_owned(),
        kind: "container".to_owned(),
        container: None,
        schedule: "@daily".to_owned(),
        last_good: None,
        last_good_snapshot: None,
        added_bytes: None,
        overdue_since: None,
        catching_up: false,
        bad_snapshot: None,
        waiting: None,
        save: ended(verdict),
        retain: None,
        drill: None,
    }
}

/// The kinds that are told one report after the other.
fn told(reports: &[Report]) -> Vec<Vec<Kind>> {
    let mut known = Told::default();
    let mut told = Vec::new();
    for report in reports {
        let (events, now) = tell(&known, report);
        told.push(events.iter().map(|event| event.kind).collect());
        known = now;
    }
    told
}

#[test]
fn what_goes_wrong_is_told_once_and_that_it_is_well_again_too() {
    let overdue = JobReport { overdue_since: Some(now()), ..job(Verdict::Failed) };
    let reports = [
        report(vec![job(Verdict::Good)]),
        report(vec![job(Verdict::Failed)]),
        report(vec![job(Verdict::TimedOut)]),
        report(vec![overdue.clone()]),
        report(vec![overdue.clone()]),
        report(vec![JobReport { overdue_since: Some(now()), ..job(Verdict::Interrupted) }]),
        report(vec![overdue]),
        report(vec![job(Verdict::Good)]),
        report(vec![job(Verdict::Good)]),
    ];
    let none = Vec::new;
    assert_eq!(
        told(&reports),
        [
            none(),
            vec![Kind::RunFailed],
            none(),
            vec![Kind::Overdue],
            none(),
            none(),
            none(),
            vec![Kind::Recovered],
            none(),
        ]
    );
}

#[test]
fn each_kind_has_its_cause() {
    let drill = JobReport { drill: Some(ended(Verdict::NotGood)), ..job(Verdict::Good) };
    let retain = JobReport { retain: Some(ended(Verdict::Failed)), ..job(Verdict::Good) };
    let frozen = JobReport { retain: Some(ended(Verdict::Frozen)), ..job(Verdict::Good) };
    assert_eq!(told(&[report(vec![drill])]), [[Kind::DrillFailed]]);
    assert_eq!(told(&[report(vec![retain])]), [[Kind::RetentionFailed]]);
    assert_eq!(told(&[report(vec![frozen])]), [Vec::<Kind>::new()]);
    assert_eq!(told(&[report(vec![job(Verdict::Suspicious)])]), [[Kind::Suspicious]]);
    let repository = Report {
        check: Some(ended(Verdict::NotGood)),
        prune: Some(ended(Verdict::Failed)),
        ..report(Vec::new())
    };
    assert_eq!(
        told(&[repository.clone(), repository]),
        [vec![Kind::DrillFailed, Kind::RetentionFailed], Vec::new()]
    );
    let broken = Report { broken: vec!["a".to_owned()], ..report(Vec::new()) };
    let more = Report { broken: vec!["a".to_owned(), "b".to_owned()], ..report(Vec::new()) };
    assert_eq!(
        told(&[broken, more.clone(), more]),
        [vec![Kind::ConfigurationBroken], vec![Kind::ConfigurationBroken], Vec::new()]
    );
}

#[test]
fn a_drill_that_failed_is_not_made_good_by_one_that_was_broken_off() {
    let drilled = |verdict, bad: Option<&str>| JobReport {
        drill: Some(ended(verdict)),
        bad_snapshot: bad.map(str::to_owned),
        ..job(Verdict::Good)
    };
    let reports = [
        report(vec![drilled(Verdict::NotGood, Some("abcd"))]),
        report(vec![drilled(Verdict::Interrupted, Some("abcd"))]),
        report(vec![drilled(Verdict::Failed, Some("abcd"))]),
        report(vec![drilled(Verdict::Good, None)]),
    ];
    assert_eq!(
        told(&reports),
        [vec![Kind::DrillFailed], Vec::new(), Vec::new(), vec![Kind::Recovered]]
    );
}

#[test]
fn what_is_found_to_be_bad_is_told_although_a_run_that_could_not_look_was_told_before() {
    let drilled = |verdict, bad: Option<&str>| {
        let drill = Some(ended(verdict));
        let bad_snapshot = bad.map(str::to_owned);
        report(vec![JobReport { drill, bad_snapshot, ..job(Verdict::Good) }])
    };
    let reports = [
        drilled(Verdict::Failed, None),
        drilled(Verdict::NotGood, Some("abcd")),
        drilled(Verdict::NotGood, Some("abcd")),
    ];
    let once = || vec![Kind::DrillFailed];
    assert_eq!(told(&reports), [once(), once(), Vec::new()]);
    let checked = |verdict| Report { check: Some(ended(verdict)), ..report(Vec::new()) };
    let reports = [
        checked(Verdict::Failed),
        checked(Verdict::NotGood),
        checked(Verdict::Failed),
        checked(Verdict::NotGood),
        checked(Verdict::Good),
        checked(Verdict::NotGood),
    ];
    assert_eq!(told(&reports), [once(), once(), Vec::new(), Vec::new(), Vec::new(), once()]);
}

#[test]
fn a_prune_that_met_damage_is_told_once_until_it_is_good_again() {
    let pruned = |verdict| Report { prune: Some(ended(verdict)), ..report(Vec::new()) };
    let warned = || pruned(Verdict::Warnings);
    let reports = [warned(), warned(), pruned(Verdict::Good), warned()];
    let once = || vec![Kind::RetentionFailed];
    assert_eq!(told(&reports), [once(), Vec::new(), Vec::new(), once()]);
    // A check that could not say everything is as it should be where there is no private key.
    let checked = Report { check: Some(ended(Verdict::Warnings)), ..report(Vec::new()) };
    assert_eq!(told(&[checked]), [Vec::<Kind>::new()]);
}

#[test]
fn a_job_may_be_called_as_the_repository_is() {
    let named = |verdict| JobReport { name: REPOSITORY.to_owned(), ..job(verdict) };
    let checked = |jobs| Report { check: Some(ended(Verdict::NotGood)), ..report(jobs) };
    let good = checked(vec![named(Verdict::Good)]);
    let none = Vec::new;
    assert_eq!(
        told(&[good.clone(), good.clone(), good]),
        [vec![Kind::DrillFailed], none(), none()]
    );
    // Nor does what is wrong with one hide what is wrong with the other.
    let drill = JobReport { drill: Some(ended(Verdict::NotGood)), ..named(Verdict::Good) };
    let reports = [report(vec![drill.clone()]), checked(vec![drill])];
    assert_eq!(told(&reports), [[Kind::DrillFailed], [Kind::DrillFailed]]);
}

#[test]
fn what_is_being_made_up_for_is_not_told_as_overdue_yet() {
    let overdue =
        |catching_up| JobReport { overdue_since: Some(now()), catching_up, ..job(Verdict::Good) };
    let reports = [
        report(vec![overdue(true)]),
        report(vec![job(Verdict::Good)]),
        report(vec![overdue(true)]),
        report(vec![overdue(false)]),
        // Started anew.
        report(vec![overdue(true)]),
        report(vec![job(Verdict::Good)]),
    ];
    let none = Vec::new;
    assert_eq!(
        told(&reports),
        [none(), none(), none(), vec![Kind::Overdue], none(), vec![Kind::Recovered]]
    );
}

#[test]
fn what_is_known_is_kept_in_the_state() {
    let (_, known) = tell(&Told::default(), &report(vec![job(Verdict::Failed)]));
    let text = serde_json::to_string(&known).unwrap();
    assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), known);
}
