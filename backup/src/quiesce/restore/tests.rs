use super::*;

const OURS: &str = "2026-11-29T10:00:00Z";
const OTHERS: &str = "2026-11-29T11:00:00Z";

fn target(action: Action, progress: Progress) -> Target {
    Target {
        container: Identity { id: "id".to_owned(), name: "web".to_owned(), compose: None },
        action,
        started_at: Some(OURS.to_owned()),
        stop_seconds: 10,
        progress,
        asked: None,
    }
}

fn container(running: bool, paused: bool, started_at: Option<&str>) -> Container {
    Container {
        id: "id".to_owned(),
        running,
        paused,
        started_at: started_at.map(str::to_owned),
        ..Container::default()
    }
}

fn same(running: bool, paused: bool, started_at: &str) -> Found {
    Found::Same(Box::new(container(running, paused, Some(started_at))))
}

#[test]
fn exactly_what_we_did_is_undone() {
    use Action::{Pause, Stop};
    use Progress::{Acting, Held, Planned, Released};
    let unpause = || Act::Unpause("id".to_owned());
    let start = || Act::Start("id".to_owned());
    let cases = [
        // What was never asked for, or is done already, is left as it is.
        (Pause, Planned, same(true, true, OURS), false, Act::Done),
        (Stop, Planned, same(false, false, OURS), false, Act::Done),
        (Stop, Released, same(false, false, OURS), false, Act::Done),
        // What we did.
        (Pause, Held, same(true, true, OURS), false, unpause()),
        (Pause, Acting, same(true, true, OURS), true, unpause()),
        (Stop, Held, same(false, false, OURS), false, start()),
        (Stop, Acting, same(false, false, OURS), true, start()),
        // The engine may not have come to it yet.
        (Pause, Acting, same(true, false, OURS), true, Act::Wait),
        (Pause, Acting, same(true, false, OURS), false, Act::Done),
        (Stop, Acting, same(true, false, OURS), true, Act::Wait),
        (Stop, Acting, same(true, false, OURS), false, Act::Done),
        // Somebody else was there.
        (Pause, Held, same(true, false, OURS), false, Act::ByOthers),
        (Pause, Held, same(false, false, OURS), false, Act::ByOthers),
        (Pause, Held, same(true, true, OTHERS), false, Act::ByOthers),
        (Stop, Held, same(true, false, OTHERS), false, Act::ByOthers),
        (Stop, Held, same(false, false, OTHERS), false, Act::ByOthers),
        (Stop, Acting, same(true, true, OURS), true, Act::ByOthers),
        (Pause, Held, Found::Gone, false, Act::ByOthers),
        (Stop, Held, Found::Gone, false, Act::ByOthers),
    ];
    for (action, progress, found, under_way, wanted) in cases {
        let decided = decide(&target(action, progress), &found, under_way);
        assert_eq!(decided, wanted, "{action:?} {progress:?} {found:?} {under_way}");
    }
}

#[test]
fn what_compose_made_instead_is_started_only_if_it_never_ran() {
    let replaced = |running, started_at| {
        let container = Container { id: "new".to_owned(), ..container(running, false, started_at) };
        Found::Replaced(Box::new(container))
    };
    let held = target(Action::Stop, Progress::Held);
    assert_eq!(decide(&held, &replaced(false, None), false), Act::Start("new".to_owned()));
    assert_eq!(decide(&held, &replaced(false, Some(OTHERS)), false), Act::ByOthers);
    assert_eq!(decide(&held, &replaced(true, Some(OTHERS)), false), Act::ByOthers);
    let paused = target(Action::Pause, Progress::Held);
    assert_eq!(decide(&paused, &replaced(false, None), false), Act::ByOthers);
}

#[test]
fn only_what_we_hold_counts_as_still() {
    let held = |action| target(action, Progress::Held);
    assert!(holds_still(&held(Action::Pause), &same(true, true, OURS)));
    assert!(holds_still(&held(Action::Stop), &same(false, false, OURS)));
    for moved in [same(true, false, OURS), same(true, true, OTHERS), Found::Gone] {
        assert!(!holds_still(&held(Action::Pause), &moved), "{moved:?}");
    }
    for moved in [same(true, false, OTHERS), same(false, false, OTHERS), Found::Gone] {
        assert!(!holds_still(&held(Action::Stop), &moved), "{moved:?}");
    }
}

#[test]
fn what_was_refused_cannot_come_any_more_and_what_was_not_answered_can() {
    for kind in [EngineErrorKind::Conflict, EngineErrorKind::NotFound, EngineErrorKind::Denied] {
        assert!(is_refusal(kind), "{kind:?}");
    }
    for kind in [EngineErrorKind::Timeout, EngineErrorKind::Unreachable, EngineErrorKind::Other] {
        assert!(!is_refusal(kind), "{kind:?}");
    }
}

#[test]
fn a_stop_may_come_late() {
    let pause = target(Action::Pause, Progress::Acting).time_to_settle();
    let stop = target(Action::Stop, Progress::Acting).time_to_settle();
    assert_eq!((pause.as_secs(), stop.as_secs()), (5, 70));
}
