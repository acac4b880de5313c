use super::*;
use crate::notify::Channels;
use crate::serve::fixtures::{container, defaults, job};
use crate::serve::job::{ByContainer, What};
use jiff::tz::TimeZone;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-30T14:00:00Z")
}

fn after(minutes: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

fn settings(jobs: Vec<Job>) -> ServeSettings {
    ServeSettings {
        defaults: defaults(),
        zone: TimeZone::UTC,
        jitter_max: Duration::ZERO,
        catch_up: Duration::ZERO,
        concurrency: 2,
        containers: true,
        check: None,
        prune: None,
        channels: Channels::default(),
        jobs,
    }
}

/// A path that needs no engine.
fn paths(name: &str) -> Job {
    Job { what: What::Paths { paths: vec!["/etc".to_owned()] }, ..job(name) }
}

fn of_container(name: &str) -> Job {
    let id = container(name, &[]).id;
    Job { by: Some(ByContainer { id, name: name.to_owned(), started: None }), ..job(name) }
}

/// One that knows what the repository has: nothing.
fn board(jobs: Vec<Job>) -> Board {
    with_state(jobs, State::default())
}

fn with_state(jobs: Vec<Job>, state: State) -> Board {
    let host = Some("machine".to_owned());
    let mut board = Board::new(settings(jobs), state, host, "own".to_owned(), now());
    board.learn(Ok(Learned::default()), now(), now());
    board
}

fn found(jobs: Vec<Job>) -> Discovered {
    Discovered { jobs, ..Discovered::default() }
}

fn answered(jobs: Vec<Job>, found_jobs: Vec<Job>) -> Board {
    let mut board = board(jobs);
    board.found(found(found_jobs), None, None, now());
    settle(&mut board, now());
    board
}

/// What is not about jobs is done.
fn settle(board: &mut Board, now: Timestamp) {
    for track in board.starts(now) {
        if !track.is_work() {
            board.begin(&track, now);
            board.end(&track, &judged(Verdict::Good, None), now);
            if track.purpose == Purpose::Learn {
                let jobs = board.state.jobs.iter();
                let jobs = jobs.filter_map(|(name, kept)| Some((name.clone(), kept.good.clone()?)));
                let learned = Learned { jobs: jobs.collect(), ..Learned::default() };
                board.learn(Ok(learned), now, now);
            }
        }
    }
}

fn settle_resume(board: &mut Board) {
    run(board, &Track::all(Purpose::Resume), Verdict::Good, now());
}

fn judged(verdict: Verdict, snapshot: Option<&str>) -> Judged {
    Judged { verdict, text: "as told".to_owned(), snapshot: snapshot.map(str::to_owned) }
}

fn save(name: &str) -> Track {
    Track::of(Purpose::Save, name)
}

fn run(board: &mut Board, track: &Track, verdict: Verdict, now: Timestamp) {
    board.begin(track, now);
    let snapshot = verdict.is_good() || verdict == Verdict::Suspicious;
    board.end(track, &judged(verdict, snapshot.then_some("abcd")), now);
}

#[test]
fn a_job_that_was_never_saved_is_due_at_once_and_then_by_its_schedule() {
    let mut board = answered(vec![paths("etc")], Vec::new());
    assert_eq!(board.starts(now()), [save("etc")]);
    board.begin(&save("etc"), now());
    assert_eq!(board.starts(now()), [], "no two runs of one job");
    board.end(&save("etc"), &judged(Verdict::Good, Some("abcd")), after(1));
    assert_eq!(board.starts(after(1)), []);
    assert_eq!(board.next_due(after(1)), Some(at("2026-12-01T03:00:00Z")));
    assert!(board.report(after(1)).well);
}

#[test]
fn not_more_run_at_once_than_may() {
    let mut board = answered(["a", "b", "c"].map(paths).to_vec(), Vec::new());
    assert_eq!(board.starts(now()).len(), 2);
    board.begin(&save("a"), now());
    assert_eq!(board.starts(now()), [save("b")]);
    board.begin(&save("b"), now());
    assert_eq!(board.starts(now()), []);
    board.end(&save("a"), &judged(Verdict::Failed, None), after(1));
    assert_eq!(board.starts(after(1)), [save("c")], "one that failed does not stop the others");
}

#[test]
fn a_job_whose_container_is_away_stays_known_and_turns_overdue() {
    let mut board = answered(Vec::new(), vec![of_container("web")]);
    run(&mut board, &save("web"), Verdict::Good, now());
    // The engine is gone, comes back, and has nothing yet.
    board.away("nobody answers".to_owned(), after(10));
    let tomorrow = at("2026-12-01T04:00:00Z");
    assert!(board.starts(tomorrow).iter().all(|track| !track.is_work()));
    let report = board.report(at("2026-12-01T05:30:00Z"));
    assert!(
        !report.well && report.ailments.iter().any(|text| text.contains("web is overdue")),
        "{report:?}"
    );
    board.found(found(Vec::new()), None, None, tomorrow);
    settle(&mut board, tomorrow);
    assert_eq!(board.jobs().len(), 1);
    let report = board.report(tomorrow);
    assert!(report.jobs[0].waiting.as_ref().unwrap().contains("SIGHUP"), "{report:?}");
    // It is there again.
    board.found(found(vec![of_container("web")]), None, None, tomorrow);
    settle(&mut board, tomorrow);
    assert_eq!(board.starts(tomorrow), [save("web")]);
}

#[test]
fn jobs_are_known_again_after_a_start_before_the_engine_answers() {
    let mut before = answered(Vec::new(), vec![of_container("web")]);
    run(&mut before, &save("web"), Verdict::Good, now());
    let board = with_state(Vec::new(), before.state().clone());
    assert_eq!(board.jobs().len(), 1);
    assert_eq!(board.report(after(1)).jobs[0].name, "web");
}

#[test]
fn a_reload_lets_go_of_what_is_gone_and_a_broken_file_changes_nothing() {
    let mut board = answered(vec![paths("etc")], vec![of_container("web")]);
    board.refuse("line 3 is wrong".to_owned());
    assert_eq!(board.jobs().len(), 2);
    let report = board.report(now());
    assert!(report.ailments[0].contains("line 3 is wrong"), "{report:?}");
    board.found(found(Vec::new()), None, None, after(1));
    board.reload(settings(vec![paths("srv")]), None, after(1));
    let names: Vec<_> = board.jobs().keys().cloned().collect();
    assert_eq!(names, ["srv"]);
    assert!(board.report(after(1)).ailments.iter().all(|text| !text.contains("line 3")));
}

#[test]
fn a_container_that_is_no_job_any_more_is_forgotten() {
    let mut board = answered(Vec::new(), vec![of_container("web")]);
    let others = BTreeSet::from(["web".to_owned()]);
    board.found(Discovered { others, ..Discovered::default() }, None, None, after(1));
    assert_eq!(board.jobs().len(), 0);
}

#[test]
fn only_a_good_run_counts_and_lets_older_ones_go() {
    let kept = Job { retain: Some("last=1".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![kept], Vec::new());
    for verdict in [Verdict::Suspicious, Verdict::Failed, Verdict::Unusable, Verdict::TimedOut] {
        run(&mut board, &save("etc"), verdict, now());
        assert_eq!(board.state().jobs["etc"].good, None, "{verdict}");
        assert!(board.starts(now()).is_empty(), "{verdict}");
    }
    // By the next morning it is overdue, however many suspicious ones there are.
    assert!(!board.report(at("2026-12-01T05:30:00Z")).well);
    run(&mut board, &save("etc"), Verdict::Warnings, after(1));
    assert!(board.state().jobs["etc"].good.is_some());
    assert_eq!(board.starts(after(1)), [Track::of(Purpose::Retain, "etc")]);
    let (words, _) = board.order(&Track::of(Purpose::Retain, "etc")).unwrap();
    assert!(words.contains(&"--host=machine".to_owned()), "{words:?}");
}

#[test]
fn what_could_not_be_forgotten_is_told_until_it_is() {
    let kept = Job { retain: Some("last=1".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![kept], Vec::new());
    let retain = Track::of(Purpose::Retain, "etc");
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &retain, Verdict::Failed, now());
    assert!(board.report(now()).ailments[0].contains("old snapshots of it stay"));
    run(&mut board, &save("etc"), Verdict::Good, after(1));
    run(&mut board, &retain, Verdict::Good, after(1));
    assert!(board.report(after(1)).well);
}

#[test]
fn a_drill_that_fails_takes_back_what_it_tried() {
    let drilled = Job {
        drill: Some("@hourly".parse().unwrap()),
        retain: Some("last=1".parse().unwrap()),
        ..paths("etc")
    };
    let mut board = answered(vec![drilled], Vec::new());
    let drill = Track::of(Purpose::Drill, "etc");
    assert!(
        board.starts(after(70)).iter().all(|track| track.purpose != Purpose::Drill),
        "there is nothing to try"
    );
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &Track::of(Purpose::Retain, "etc"), Verdict::Good, now());
    assert_eq!(board.starts(after(70)), std::slice::from_ref(&drill));
    assert_eq!(board.order(&drill).unwrap().0, ["drill", "abcd"]);
    run(&mut board, &drill, Verdict::NotGood, after(70));
    assert_eq!(board.state().jobs["etc"].good, None);
    let report = board.report(after(70));
    assert!(report.ailments.iter().any(|text| text.contains("drill")), "{report:?}");
    // The next one is saved, and nothing older goes for it.
    run(&mut board, &save("etc"), Verdict::Good, after(80));
    assert_eq!(board.starts(after(81)), []);
    run(&mut board, &drill, Verdict::Good, after(130));
    board.found(found(Vec::new()), None, None, after(130));
    assert!(board.report(after(130)).well);
    // A run that could not be tried takes nothing back.
    run(&mut board, &drill, Verdict::Failed, after(190));
    assert!(board.state().jobs["etc"].good.is_some());
}

#[test]
fn what_the_repository_has_counts_more_than_what_is_remembered() {
    let mut board = answered(vec![paths("etc"), paths("srv")], Vec::new());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &save("srv"), Verdict::Good, after(20));
    // It was looked at between the two.
    board.learn(Ok(Learned::default()), after(10), after(30));
    assert_eq!(board.state().jobs["etc"].good, None, "somebody has dropped it");
    assert!(board.state().jobs["srv"].good.is_some(), "it was not seen");
    let good = Good { time: after(5), snapshot: "ef".to_owned() };
    let learned =
        Learned { jobs: BTreeMap::from([("etc".to_owned(), good.clone())]), ..Learned::default() };
    board.learn(Ok(learned), after(31), after(31));
    assert_eq!(board.state().jobs["etc"].good, Some(good));
}

#[test]
fn a_job_that_is_found_later_is_known_from_the_repository_too() {
    let good = Good { time: now(), snapshot: "ef".to_owned() };
    let learned =
        Learned { jobs: BTreeMap::from([("web".to_owned(), good.clone())]), ..Learned::default() };
    let mut board = board(Vec::new());
    board.learn(Ok(learned), now(), now());
    board.found(found(vec![of_container("web")]), None, None, after(1));
    assert_eq!(board.state().jobs["web"].good, Some(good));
}

#[test]
fn nothing_starts_before_it_is_known_what_the_repository_has() {
    let host = Some("machine".to_owned());
    let all = settings(vec![paths("etc")]);
    let mut board = Board::new(all, State::default(), host, String::new(), now());
    assert_eq!(board.starts(now()), [], "it is not known what the engine calls itself");
    assert_eq!(board.starts(after(2)), [Track::all(Purpose::Learn)]);
    board.found(found(Vec::new()), None, Some("E1".to_owned()), now());
    settle_resume(&mut board);
    assert_eq!(board.starts(now()), [Track::all(Purpose::Learn)]);
    board.learn(Err("no answer".to_owned()), now(), now());
    assert_eq!(board.starts(now()), [save("etc")], "without an answer it is saved all the same");
    assert!(!board.report(now()).well);
}

#[test]
fn two_machines_of_one_name_are_told_and_nothing_is_forgotten() {
    let kept = Job { retain: Some("last=1".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![kept], Vec::new());
    board.learn(Ok(Learned { twin: true, ..Learned::default() }), now(), now());
    run(&mut board, &save("etc"), Verdict::Good, now());
    assert_eq!(board.starts(now()), []);
    assert!(board.report(now()).ailments[0].contains("--host"));
}

#[test]
fn which_node_the_engine_is_stays_known_while_it_does_not_say_so() {
    let text = |text: &str| Some(text.to_owned());
    let mut board = answered(vec![paths("etc")], Vec::new());
    board.machine(text("n1"), text("b1"));
    assert_eq!(board.starts(now()), [Track::all(Purpose::Learn)], "others were counted before");
    board.learn(Ok(Learned::default()), now(), now());
    board.machine(None, text("b1"));
    assert_eq!(board.starts(now()), [save("etc")]);
    let (words, _) = board.order(&save("etc")).unwrap();
    for tag in ["--tag=chores.node=n1", "--tag=chores.boot=b1"] {
        assert!(words.contains(&tag.to_owned()), "{words:?}");
    }
    assert_eq!(board.state().node, text("n1"));
}

#[test]
fn when_nothing_may_be_forgotten_it_is_looked_again_who_saves() {
    let kept = Job { retain: Some("last=1".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![kept], Vec::new());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &Track::of(Purpose::Retain, "etc"), Verdict::Frozen, now());
    assert_eq!(board.starts(now()), [Track::all(Purpose::Learn)]);
}

#[test]
fn what_is_remembered_of_a_name_stays_while_two_share_it() {
    let mut board = answered(Vec::new(), vec![of_container("web")]);
    run(&mut board, &save("web"), Verdict::Suspicious, now());
    let mut other = of_container("web");
    other.by = Some(ByContainer { id: "f".repeat(64), name: "web.2".to_owned(), started: None });
    board.found(found(vec![of_container("web"), other]), None, None, after(1));
    assert!(!board.jobs().contains_key("web") && board.jobs().len() == 2);
    board.found(found(vec![of_container("web")]), None, None, after(2));
    assert!(board.state().jobs["web"].suspicious);
}

#[test]
fn a_resume_that_fails_is_told_and_tried_again() {
    let mut board = answered(Vec::new(), Vec::new());
    board.ask_for_resume();
    let resume = Track::all(Purpose::Resume);
    assert_eq!(board.starts(now()), std::slice::from_ref(&resume));
    run(&mut board, &resume, Verdict::Failed, now());
    assert_eq!(board.starts(now()), []);
    assert!(board.report(now()).ailments[0].contains("paused or stopped"));
    assert_eq!(board.starts(after(2)), std::slice::from_ref(&resume));
    run(&mut board, &resume, Verdict::Good, after(2));
    assert!(board.report(after(2)).well);
    // The one who looks at the engine is gone.
    assert!(!board.report(after(30)).well);
}

#[test]
fn a_drill_that_is_no_longer_wanted_freezes_nothing() {
    let drilled = Job { drill: Some("@hourly".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![drilled], Vec::new());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &Track::of(Purpose::Drill, "etc"), Verdict::NotGood, now());
    board.reload(settings(vec![paths("etc")]), None, after(1));
    assert_eq!(board.state().jobs["etc"].drill.last, None);
}

#[test]
fn what_was_interrupted_is_due_again() {
    let mut board = answered(vec![paths("etc")], Vec::new());
    run(&mut board, &save("etc"), Verdict::Interrupted, now());
    assert_eq!(board.starts(after(1)), [save("etc")]);
}

#[test]
fn a_run_that_ends_by_itself_is_honest() {
    let through = |board: &mut Board, verdict| {
        run(board, &save("etc"), verdict, now());
        assert!(board.is_through(now()));
        board.exit_code(now())
    };
    let fresh = || answered(vec![paths("etc")], Vec::new());
    assert!(!fresh().is_through(now()));
    assert_eq!(fresh().exit_code(now()), ExitCode::Failed, "nothing was saved");
    assert_eq!(through(&mut fresh(), Verdict::Good), ExitCode::Done);
    assert_eq!(through(&mut fresh(), Verdict::Warnings), ExitCode::Warnings);
    assert_eq!(through(&mut fresh(), Verdict::Suspicious), ExitCode::Warnings);
    assert_eq!(through(&mut fresh(), Verdict::Failed), ExitCode::Failed);
    assert_eq!(through(&mut fresh(), Verdict::Unusable), ExitCode::Failed);
    assert_eq!(answered(Vec::new(), Vec::new()).exit_code(now()), ExitCode::Warnings, "no job");
    let mut refused = fresh();
    let problems = BTreeMap::from([("web".to_owned(), "so".to_owned())]);
    refused.found(Discovered { refused: problems, ..Discovered::default() }, None, None, now());
    settle(&mut refused, now());
    assert_eq!(through(&mut refused, Verdict::Good), ExitCode::Failed);
    let mut often =
        answered(vec![Job { schedule: "* * * * *".parse().unwrap(), ..paths("etc") }], Vec::new())
            .once();
    run(&mut often, &save("etc"), Verdict::Good, now());
    assert!(often.is_through(after(3)), "it is not run again and again");
    // No engine.
    let mut away = board(vec![paths("etc")]);
    away.away("nobody".to_owned(), now());
    run(&mut away, &save("etc"), Verdict::Good, now());
    assert!(!away.is_through(now()) && away.is_through(after(2)));
    assert_eq!(away.exit_code(after(2)), ExitCode::Failed);
}

#[test]
fn the_repository_is_checked_and_pruned_by_its_own_schedule() {
    let mut all = settings(Vec::new());
    all.check = Some(("@hourly".parse().unwrap(), Some(5)));
    all.prune = Some(("30 * * * *".parse().unwrap(), Some("2h".to_owned())));
    let mut board =
        Board::new(all, State::default(), Some("machine".to_owned()), String::new(), now());
    board.learn(Ok(Learned::default()), now(), now());
    let (check, prune) = (Track::all(Purpose::Check), Track::all(Purpose::Prune));
    assert_eq!(board.starts(now()), []);
    assert_eq!(board.starts(after(31)), std::slice::from_ref(&prune));
    assert_eq!(board.starts(after(61)), std::slice::from_ref(&prune), "one of the two at once");
    assert_eq!(board.order(&check).unwrap().0, ["check", "--read-data=5"]);
    assert_eq!(board.order(&prune).unwrap().0, ["prune", "--grace=2h"]);
    run(&mut board, &check, Verdict::NotGood, after(61));
    assert!(!board.report(after(61)).well);
    assert_eq!(board.exit_code(after(61)), ExitCode::Failed);
}

#[test]
fn a_prune_that_met_damage_is_not_well_though_it_was_made() {
    let mut all = ServeSettings { containers: false, ..settings(vec![paths("etc")]) };
    all.check = Some(("@hourly".parse().unwrap(), None));
    all.prune = Some(("@hourly".parse().unwrap(), None));
    let mut board =
        Board::new(all, State::default(), Some("machine".to_owned()), String::new(), now());
    board.learn(Ok(Learned::default()), now(), now());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &Track::all(Purpose::Check), Verdict::Warnings, now());
    assert!(board.report(now()).well);
    assert_eq!(board.exit_code(now()), ExitCode::Done);
    run(&mut board, &Track::all(Purpose::Prune), Verdict::Warnings, now());
    assert!(board.report(now()).ailments[0].contains("the last prune"));
    assert_eq!(board.exit_code(now()), ExitCode::Warnings);
}

#[test]
fn only_a_good_drill_takes_back_what_a_bad_one_found() {
    let drilled = Job {
        drill: Some("@hourly".parse().unwrap()),
        retain: Some("last=1".parse().unwrap()),
        ..paths("etc")
    };
    let drill = Track::of(Purpose::Drill, "etc");
    for verdict in [Verdict::Failed, Verdict::TimedOut, Verdict::Unusable, Verdict::Interrupted] {
        let mut board = answered(vec![drilled.clone()], Vec::new());
        run(&mut board, &save("etc"), Verdict::Good, now());
        run(&mut board, &Track::of(Purpose::Retain, "etc"), Verdict::Good, now());
        run(&mut board, &drill, Verdict::NotGood, after(1));
        run(&mut board, &save("etc"), Verdict::Good, after(2));
        run(&mut board, &drill, verdict, after(3));
        run(&mut board, &save("etc"), Verdict::Good, after(4));
        let starts = board.starts(after(4));
        assert!(starts.iter().all(|track| track.purpose != Purpose::Retain), "{verdict}");
        let report = board.report(after(4));
        let is_told = |text: &String| text.contains("etc") && text.contains("drill");
        assert!(report.ailments.iter().any(is_told), "{verdict}: {report:?}");
        assert_eq!(report.jobs[0].bad_snapshot.as_deref(), Some("abcd"), "{verdict}");
        run(&mut board, &drill, Verdict::Good, after(5));
        run(&mut board, &save("etc"), Verdict::Good, after(6));
        assert_eq!(board.starts(after(6)), [Track::of(Purpose::Retain, "etc")], "{verdict}");
    }
}

fn tried(time: Timestamp, good: bool) -> Learned {
    let drilled = Drilled { time, snapshot: "ef".to_owned(), good };
    Learned {
        jobs: BTreeMap::from([("etc".to_owned(), Good { time, snapshot: "ab".to_owned() })]),
        drilled: BTreeMap::from([("etc".to_owned(), drilled)]),
        ..Learned::default()
    }
}

#[test]
fn a_bad_drill_is_known_again_from_the_repository() {
    let drilled = Job {
        drill: Some("@weekly".parse().unwrap()),
        retain: Some("last=1".parse().unwrap()),
        ..paths("etc")
    };
    let retains = |board: &mut Board, now| {
        run(board, &save("etc"), Verdict::Good, now);
        board.starts(now).contains(&Track::of(Purpose::Retain, "etc"))
    };
    // The state is lost.
    let mut board = answered(vec![drilled.clone()], Vec::new());
    board.learn(Ok(tried(after(-60), false)), now(), now());
    assert!(!retains(&mut board, after(1)));
    // Somebody has tried it again by hand, and it is good.
    board.learn(Ok(tried(after(-60), true)), after(2), after(2));
    assert!(retains(&mut board, after(3)));
    // That an older one was bad, which is kept for a year, is no news.
    board.learn(Ok(tried(after(-90), false)), after(4), after(4));
    assert_eq!(board.state().jobs["etc"].bad, None);
    // Its container shows only when the repository is known.
    let by = of_container("etc").by;
    let mut board = self::board(Vec::new());
    board.learn(Ok(tried(after(-60), false)), now(), now());
    board.found(found(vec![Job { by, ..drilled.clone() }]), None, None, now());
    assert!(!retains(&mut board, after(1)));
    // Where no drill is ordered, none is awaited.
    let plain = Job { drill: None, ..drilled };
    let mut board = answered(vec![plain], Vec::new());
    board.learn(Ok(tried(after(-60), false)), now(), now());
    assert!(retains(&mut board, after(1)));
}

#[test]
fn a_look_into_the_repository_takes_nothing_back_that_happened_meanwhile() {
    let drilled = Job { drill: Some("@weekly".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![drilled], Vec::new());
    let yesterday = Good { time: after(-1440), snapshot: "ab".to_owned() };
    let learned = Learned {
        jobs: BTreeMap::from([("etc".to_owned(), yesterday.clone())]),
        ..Learned::default()
    };
    // It was begun while the job ran, and ends behind it.
    board.begin(&save("etc"), now());
    board.end(&save("etc"), &judged(Verdict::Good, Some("abcd")), after(10));
    board.learn(Ok(learned.clone()), after(5), after(15));
    let good = board.state().jobs["etc"].good.clone();
    assert_eq!(good.map(|good| good.snapshot).as_deref(), Some("abcd"));
    // A drill has taken it back meanwhile.
    let drill = Track::of(Purpose::Drill, "etc");
    board.begin(&drill, after(20));
    board.end(&drill, &judged(Verdict::NotGood, None), after(30));
    board.learn(Ok(learned.clone()), after(25), after(35));
    assert_eq!(board.state().jobs["etc"].good, None);
    board.learn(Ok(learned), after(40), after(40));
    assert_eq!(board.state().jobs["etc"].good, Some(yesterday));
}

#[test]
fn an_answer_to_what_is_no_longer_asked_is_dropped() {
    let mut board = answered(vec![paths("etc")], Vec::new());
    let learn = Track::all(Purpose::Learn);
    board.machine(Some("n1".to_owned()), None);
    for round in 0..=STALE_MAX {
        assert_eq!(board.starts(now()), std::slice::from_ref(&learn), "{round}");
        board.begin(&learn, now());
        board.machine(Some(format!("n1{round}")), None);
        board.end(&learn, &judged(Verdict::Good, None), now());
        board.learn(Ok(Learned::default()), now(), now());
    }
    assert_eq!(board.starts(now()), [save("etc")], "names that change for ever hold nothing up");
}

#[test]
fn checks_and_prunes_hold_no_job_up() {
    let mut all = settings(["a", "b"].map(paths).to_vec());
    (all.concurrency, all.check) = (1, Some(("@hourly".parse().unwrap(), None)));
    all.prune = Some(("@hourly".parse().unwrap(), None));
    let mut board =
        Board::new(all, State::default(), Some("machine".to_owned()), String::new(), now());
    board.learn(Ok(Learned::default()), now(), now());
    let check = Track::all(Purpose::Check);
    board.begin(&check, after(61));
    assert_eq!(board.starts(after(61)), [save("a")]);
    board.begin(&save("a"), after(61));
    assert_eq!(board.starts(after(62)), [], "no prune beside a check, and no job beside a job");
    let waiting = board.report(after(62)).jobs[1].waiting.clone().unwrap();
    assert!(waiting.contains("backup of a since"), "{waiting}");
    run(&mut board, &check, Verdict::Good, after(63));
    assert_eq!(board.starts(after(63)), [Track::all(Purpose::Prune)]);
}

#[test]
fn a_run_that_even_a_kill_does_not_end_holds_nothing_up_but_itself() {
    let mut board = answered(["a", "b", "c"].map(paths).to_vec(), Vec::new());
    let judged = judged(Verdict::TimedOut, None);
    for name in ["a", "b"] {
        board.begin(&save(name), now());
        board.end(&save(name), &judged, after(1));
        board.stuck(&save(name), after(1));
    }
    let all: Vec<_> = board.starts(after(30));
    assert_eq!(all, [save("c")]);
    let report = board.report(after(30));
    assert!(report.ailments.iter().any(|text| text.contains("backup of a was killed")));
    assert!(report.jobs[0].waiting.as_ref().unwrap().contains("does not end"), "{report:?}");
    board.gone(&save("a"));
    assert!(board.starts(after(30)).contains(&save("a")));
}

#[test]
fn a_container_without_a_name_for_its_host_saves_nothing_under_its_own() {
    let good = Good { time: after(-60), snapshot: "ab".to_owned() };
    let mut state = State::default();
    state.jobs.insert("etc".to_owned(), JobState { good: Some(good), ..JobState::default() });
    let inside = |containers| {
        let all = ServeSettings { containers, ..settings(vec![paths("etc")]) };
        Board::new(all, state.clone(), None, "0123456789ab".to_owned(), now()).inside()
    };
    let mut board = inside(true);
    assert!(board.report(now()).broken.is_empty(), "the engine may still say it");
    board.found(found(vec![of_container("web")]), None, Some("E1".to_owned()), now());
    settle(&mut board, now());
    board.learn(Ok(Learned::default()), now(), now());
    assert_eq!(board.starts(now()), []);
    let report = board.report(now());
    assert!(report.broken[0].contains("--host"), "{report:?}");
    assert!(report.jobs.iter().all(|job| job.waiting.as_ref().unwrap().contains("--host")));
    assert!(report.jobs[0].last_good.is_some(), "what it has saved is not forgotten for that");
    let board = board.once();
    assert!(board.is_through(now()));
    assert_eq!(board.exit_code(now()), ExitCode::Failed);
    // The engine says it.
    let mut board = inside(true);
    board.found(found(Vec::new()), Some("machine".to_owned()), None, now());
    assert_eq!((board.missing_name(), board.names().host.as_str()), (None, "machine"));
    // Nobody is asked.
    assert!(inside(false).missing_name().is_some());
    // A machine's own name lasts.
    let all = settings(vec![paths("etc")]);
    let mut outside = Board::new(all, State::default(), None, "own".to_owned(), now());
    outside.found(found(Vec::new()), None, None, now());
    assert_eq!((outside.missing_name(), outside.names().host.as_str()), (None, "own"));
}

#[test]
fn a_file_that_is_read_anew_counts_at_once_for_jobs_of_labels() {
    let with = |retain: &str| Job { retain: Some(retain.parse().unwrap()), ..of_container("web") };
    let mut board = answered(Vec::new(), vec![with("last=3")]);
    run(&mut board, &save("web"), Verdict::Good, now());
    board.reload(settings(Vec::new()), Some(found(vec![with("daily=30")])), after(1));
    let (words, _) = board.order(&Track::of(Purpose::Retain, "web")).unwrap();
    assert!(words.contains(&"--keep-daily=30".to_owned()), "{words:?}");
    assert!(words.iter().all(|word| !word.starts_with("--keep-last")), "{words:?}");
    // The engine is away, and what it had last is still known.
    board.away("nobody answers".to_owned(), after(2));
    board.reload(settings(Vec::new()), Some(found(vec![with("daily=7")])), after(3));
    let (words, _) = board.order(&Track::of(Purpose::Retain, "web")).unwrap();
    assert!(words.contains(&"--keep-daily=7".to_owned()), "{words:?}");
    // One whose labels are refused just now is no less a job.
    let refused = BTreeMap::from([("web".to_owned(), "so".to_owned())]);
    let refused = Discovered { refused, ..Discovered::default() };
    board.found(refused.clone(), None, None, after(4));
    board.reload(settings(Vec::new()), Some(refused), after(5));
    assert!(board.state().jobs["web"].save.times.last_end.is_some());
}

#[test]
fn what_was_missed_while_nobody_ran_is_made_up_for_before_it_is_told() {
    let mut yesterday = answered(vec![paths("etc")], Vec::new());
    run(&mut yesterday, &save("etc"), Verdict::Good, after(-1440));
    let missed = |board: &Board, now| {
        let report = board.report(now);
        assert!(report.jobs[0].overdue_since.is_some() && !report.well, "{report:?}");
        report.jobs[0].catching_up
    };
    let again = || {
        let mut board = with_state(vec![paths("etc")], yesterday.state().clone());
        let good = yesterday.state().jobs["etc"].good.clone().unwrap();
        let jobs = BTreeMap::from([("etc".to_owned(), good)]);
        board.learn(Ok(Learned { jobs, ..Learned::default() }), now(), now());
        board
    };
    let board = again();
    assert!(missed(&board, now()) && missed(&board, after(29)));
    assert!(!missed(&board, after(31)), "nobody has made up for it");
    let mut failed = again();
    failed.begin(&save("etc"), after(1));
    assert!(missed(&failed, after(60)), "it runs");
    assert!(!missed(&failed, after(121)), "for too long");
    failed.end(&save("etc"), &judged(Verdict::Failed, None), after(2));
    assert!(!missed(&failed, after(3)));
    // The machine has slept.
    let mut asleep = again();
    run(&mut asleep, &save("etc"), Verdict::Good, after(1));
    asleep.tick(after(1440));
    assert!(missed(&asleep, after(1440)));
    assert!(asleep.report(after(1440)).ailments.iter().all(|text| !text.contains("nobody has")));
    // Who ends by itself tells at its end.
    let mut once = again().once();
    once.found(found(Vec::new()), None, None, now());
    settle(&mut once, now());
    assert!(missed(&once, now()));
    once.ran.insert("etc".to_owned());
    assert!(once.is_through(now()) && !missed(&once, now()));
}

#[test]
fn a_clock_that_is_set_after_the_start_has_seen_nothing_before() {
    let long_ago = at("2000-01-01T00:00:00Z");
    let host = Some("machine".to_owned());
    let jobs = vec![paths("etc")];
    let mut board = Board::new(settings(jobs), State::default(), host, String::new(), long_ago);
    board.tick(now());
    assert_eq!(board.report(now()).jobs[0].overdue_since, None);
    assert!(board.report(after(121)).jobs[0].overdue_since.is_some(), "it was never saved");
    // What has run, and was known before this clock, stays what it was.
    let mut board = answered(vec![paths("etc")], Vec::new());
    let known = with_state(vec![paths("etc")], board.state().clone());
    run(&mut board, &save("etc"), Verdict::Failed, after(1));
    // Nor does a machine forget in its sleep what it has never run.
    let idle = answered(vec![paths("etc")], Vec::new());
    for mut board in [board, known, idle] {
        for night in 1..=2 {
            board.tick(after(night * 1440));
            assert_eq!(board.state().jobs["etc"].save.times.first_seen, Some(now()));
        }
    }
}

#[test]
fn a_container_that_rests_for_long_is_not_taken_for_gone() {
    let mut board = answered(Vec::new(), vec![of_container("web")]);
    run(&mut board, &save("web"), Verdict::Good, now());
    let rests = || {
        let resting = BTreeSet::from(["web".to_owned()]);
        Discovered { resting, ..Discovered::default() }
    };
    let later = |days: i64| after(days * 24 * 60);
    board.found(rests(), None, None, later(31));
    assert!(board.report(later(31)).jobs[0].overdue_since.is_some());
    // From then on it is gone.
    board.found(found(Vec::new()), None, None, later(32));
    assert_eq!(board.jobs().len(), 1);
    board.found(found(Vec::new()), None, None, later(62));
    assert_eq!(board.jobs().len(), 0);
}

#[test]
fn what_a_label_says_is_one_line_of_a_report_and_a_frozen_job_is_noted() {
    let kept = Job { retain: Some("last=1".parse().unwrap()), ..paths("etc") };
    let mut board = answered(vec![kept], Vec::new());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &Track::of(Purpose::Retain, "etc"), Verdict::Frozen, now());
    let notes = board.report(now()).notes;
    assert!(notes.iter().any(|note| note == "etc: its old snapshots: as told"), "{notes:?}");
    let refused = BTreeMap::from([("web".to_owned(), "x\nwell \u{1b}[2J".to_owned())]);
    board.found(Discovered { refused, ..Discovered::default() }, None, None, now());
    let report = board.report(now());
    let is_plain = |text: &String| !text.contains(['\n', '\u{1b}']);
    assert!(report.broken.iter().chain(&report.ailments).all(is_plain), "{report:?}");
}

#[test]
fn thousands_of_jobs_wait_for_their_turn_and_are_told_of() {
    let names: Vec<_> = (0..3000).map(|number| format!("job{number}")).collect();
    let rare = |name: &String| Job { schedule: "59 23 29 2 *".parse().unwrap(), ..paths(name) };
    let mut board = answered(names.iter().map(rare).collect(), Vec::new());
    for minute in 0..3 {
        let starts = board.starts(after(minute));
        assert_eq!(starts.len(), 2);
        starts.iter().for_each(|track| run(&mut board, track, Verdict::Good, after(minute)));
        assert!(board.next_due(after(minute)).is_some());
    }
    let report = board.report(after(3));
    let saved = report.jobs.iter().filter(|job| job.last_good.is_some());
    assert_eq!((report.jobs.len(), saved.count()), (3000, 6));
}

#[test]
fn containers_that_have_another_name_each_time_fill_no_memory() {
    let jobs = |range: std::ops::Range<usize>| -> Vec<_> {
        range.map(|number| of_container(&format!("job{number:04}"))).collect()
    };
    let mut board = answered(Vec::new(), jobs(0..600));
    board.found(found(jobs(600..1001)), None, None, after(1));
    board.found(found(jobs(1001..1002)), None, None, after(2));
    assert_eq!(board.jobs().len(), GONE_MAX + 1);
    assert!(!board.jobs().contains_key("job0000"), "it is gone for the longest time");
    assert!(board.jobs().contains_key("job0001") && board.jobs().contains_key("job1001"));
    let notes = board.report(after(2)).notes;
    assert!(
        notes.iter().any(|note| note.contains("1 jobs whose containers are gone")),
        "{notes:?}"
    );
    // What rests is there.
    let mut rests = found(jobs(1002..1003));
    rests.resting = BTreeSet::from(["job0001".to_owned()]);
    board.found(rests, None, None, after(3));
    assert!(board.jobs().contains_key("job0001") && board.jobs().contains_key("job0002"));
}

#[test]
fn drills_that_nothing_here_can_decrypt_are_told_before_they_are_due() {
    let drilled = |name: &str| Job { drill: Some("0 5 * * 0".parse().unwrap()), ..paths(name) };
    let mut board = answered(vec![paths("etc"), drilled("db"), drilled("www")], Vec::new());
    run(&mut board, &save("etc"), Verdict::Good, now());
    run(&mut board, &save("db"), Verdict::Good, now());
    run(&mut board, &save("www"), Verdict::Good, now());
    assert_eq!((board.impossible_drills(), board.exit_code(now())), (None, ExitCode::Done));
    let closed = |board: &Board| Learned {
        jobs: board.repository.clone(),
        closed: true,
        ..Learned::default()
    };
    let learned = closed(&board);
    board.learn(Ok(learned), at("2026-11-30T13:00:00Z"), now());
    let report = board.report(now());
    assert!(!report.well && report.broken.len() == 1, "{report:?}");
    let told = &report.broken[0];
    assert!(
        told.starts_with("drills of db, www cannot be made") && told.contains("--identity"),
        "{told}"
    );
    assert_eq!(board.exit_code(now()), ExitCode::Warnings);
    // Who drills elsewhere is told nothing.
    let mut board = answered(vec![paths("etc")], Vec::new());
    let learned = closed(&board);
    board.learn(Ok(learned), now(), now());
    assert!(board.report(now()).broken.is_empty());
    // Of many, some are named.
    let mut board =
        answered((0..12).map(|number| drilled(&format!("db{number}"))).collect(), Vec::new());
    let learned = closed(&board);
    board.learn(Ok(learned), now(), now());
    assert!(board.impossible_drills().unwrap().contains(" and 2 others cannot be made"));
}
