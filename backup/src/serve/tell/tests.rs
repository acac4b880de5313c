use super::*;

fn now() -> Timestamp {
    "2026-11-30T14:00:00Z".parse().unwrap()
}

fn report(jobs: Vec<JobReport>) -> Report {
    Report {
        time: now(),
        host: "machine".to_owned(),
        well: false,
        broken: Vec::new(),
        ailments: Vec::new(),
        notes: Vec::new(),
        jobs,
        check: None,
        prune: None,
        repository: None,
    }
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
fn what_is_known_is_kept_in_the_state() {
    let (_, known) = tell(&Told::default(), &report(vec![job(Verdict::Failed)]));
    let text = serde_json::to_string(&known).unwrap();
    assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), known);
}
