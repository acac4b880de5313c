use super::*;

#[test]
fn messages_are_told_from_all_other_output() {
    assert_eq!(ToParent::Ready.to_line(), "{\"quiesce\":\"ready\"}\n");
    for message in [ToParent::Ready, ToParent::Read] {
        assert_eq!(ToParent::from_line(message.to_line().trim_end()), Some(message));
    }
    for other in [r#"{"event":"summary"}"#, "snapshot 12 saved", ""] {
        assert_eq!(ToParent::from_line(other), None, "{other}");
    }
}

#[test]
fn warnings_with_line_ends_stay_on_one_line() {
    let released = FromParent::Released { warnings: vec!["a\nb".to_owned()] };
    let line = released.to_line();
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(from_line::<FromParent>(line.trim_end()), Some(released));
}

#[test]
fn what_a_guard_hears_comes_back() {
    for message in [
        ToGuard::Hello,
        ToGuard::Beat,
        ToGuard::Hook { number: 3, progress: HookProgress::Due },
        ToGuard::Done,
    ] {
        assert_eq!(from_line::<ToGuard>(to_line(&message).trim_end()), Some(message));
    }
}
