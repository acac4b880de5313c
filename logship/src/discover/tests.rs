use super::*;

fn event(action: ContainerAction, id: &str, name: &str) -> ContainerEvent {
    ContainerEvent { id: id.to_owned(), name: name.to_owned(), action, time: 0 }
}

fn listed(id: &str, name: &str, state: ContainerState) -> ListedContainer {
    ListedContainer {
        id: id.to_owned(),
        name: name.to_owned(),
        image_ref: String::new(),
        labels: BTreeMap::new(),
        state,
    }
}

fn appeared(id: &str) -> Change {
    Change::Appeared(id.to_owned())
}

fn started(id: &str) -> Change {
    Change::Started(id.to_owned())
}

fn ended(id: &str) -> Change {
    Change::Ended(id.to_owned())
}

fn removed(id: &str) -> Change {
    Change::Removed(id.to_owned())
}

#[test]
fn events_tell_what_begins_and_what_is_over() {
    let mut known = Known::default();
    let mut tell = |action, id| known.event(&event(action, id, "web"));
    assert_eq!(tell(ContainerAction::Create, "a"), [appeared("a")]);
    assert_eq!(tell(ContainerAction::Start, "a"), [started("a")]);
    assert_eq!(tell(ContainerAction::Die, "a"), [ended("a")]);
    assert_eq!(tell(ContainerAction::Start, "a"), [started("a")]);
    assert_eq!(tell(ContainerAction::Rename, "a"), [appeared("a")]);
    assert_eq!(tell(ContainerAction::Destroy, "a"), [removed("a")]);
    assert_eq!(tell(ContainerAction::Destroy, "a"), []);
    assert_eq!(tell(ContainerAction::Start, "b"), [appeared("b"), started("b")]);
}

#[test]
fn the_list_tells_what_the_events_did_not() {
    let mut known = Known::default();
    let first = [
        listed("a", "web", ContainerState::Running),
        listed("b", "db", ContainerState::NotRunning),
    ];
    assert_eq!(known.list(&first), [appeared("a"), started("a"), appeared("b"), Change::Complete]);
    assert_eq!(known.list(&first), [Change::Complete]);
    let second = [
        listed("b", "database", ContainerState::Paused),
        listed("c", "job", ContainerState::NotRunning),
    ];
    assert_eq!(
        known.list(&second),
        [removed("a"), appeared("b"), started("b"), appeared("c"), Change::Complete]
    );
    let third = [
        listed("b", "database", ContainerState::NotRunning),
        listed("c", "job", ContainerState::NotRunning),
    ];
    assert_eq!(known.list(&third), [ended("b"), Change::Complete]);
}

#[test]
fn a_run_that_began_and_ended_between_two_lists_is_told_by_its_event_alone() {
    let mut known = Known::default();
    known.list(&[listed("a", "web", ContainerState::NotRunning)]);
    assert_eq!(known.event(&event(ContainerAction::Start, "a", "web")), [started("a")]);
    assert_eq!(known.event(&event(ContainerAction::Die, "a", "web")), [ended("a")]);
    let again = [listed("a", "web", ContainerState::NotRunning)];
    assert_eq!(known.list(&again), [Change::Complete]);
}
