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
    board.reload(settings(vec![paths("srv")]), after(1));
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
    board.reload(settings(vec![paths("etc")]), after(1));
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
    assert_eq!(board.starts(after(61)), [prune.clone(), check.clone()]);
    assert_eq!(board.order(&check).unwrap().0, ["check", "--read-data=5"]);
    assert_eq!(board.order(&prune).unwrap().0, ["prune", "--grace=2h"]);
    run(&mut board, &check, Verdict::NotGood, after(61));
    assert!(!board.report(after(61)).well);
    assert_eq!(board.exit_code(after(61)), ExitCode::Failed);
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
