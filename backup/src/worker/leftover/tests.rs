use super::*;

fn parent(container: Option<&str>, namespace: &str, pid: u32) -> Parent {
    Parent {
        host: "web1".to_owned(),
        container: container.map(str::to_owned),
        boot: "boot-1".to_owned(),
        namespace: namespace.to_owned(),
        pid,
        start: 100,
    }
}

#[test]
fn a_process_of_the_same_place_is_known_by_its_start() {
    let ours = parent(None, "pid:[1]", 7);
    let theirs = parent(None, "pid:[1]", 8);
    assert_eq!(theirs.fate(&ours, false, |_| Seen::Since(100)), Fate::Alive);
    assert_eq!(theirs.fate(&ours, false, |_| Seen::Since(101)), Fate::Gone);
    assert_eq!(theirs.fate(&ours, false, |_| Seen::Nobody), Fate::Gone);
    assert_eq!(theirs.fate(&ours, false, |_| Seen::Hidden), Fate::Unknown);
}

#[test]
fn a_parent_in_another_container_lives_as_long_as_that_runs() {
    let ours = parent(Some("a"), "pid:[1]", 1);
    let theirs = parent(Some("b"), "pid:[2]", 1);
    let none = |_| Seen::Nobody;
    assert_eq!(theirs.fate(&ours, true, none), Fate::Alive);
    assert_eq!(theirs.fate(&ours, false, none), Fate::Gone);
    assert_eq!(theirs.fate(&parent(None, "pid:[0]", 9), true, none), Fate::Alive);
}

#[test]
fn an_earlier_life_of_our_own_container_is_gone() {
    let ours = parent(Some("a"), "pid:[2]", 1);
    assert_eq!(parent(Some("a"), "pid:[1]", 1).fate(&ours, true, |_| Seen::Since(100)), Fate::Gone);
}

#[test]
fn a_process_of_a_host_is_not_judged_from_elsewhere_but_by_a_new_boot() {
    let theirs = parent(None, "pid:[0]", 9);
    let in_container = parent(Some("a"), "pid:[1]", 1);
    assert_eq!(theirs.fate(&in_container, false, |_| Seen::Nobody), Fate::Unknown);
    let rebooted = Parent { boot: "boot-2".to_owned(), ..parent(None, "pid:[0]", 3) };
    assert_eq!(theirs.fate(&rebooted, false, |_| Seen::Since(100)), Fate::Gone);
    let other_machine = Parent { host: "web2".to_owned(), ..rebooted };
    assert_eq!(theirs.fate(&other_machine, false, |_| Seen::Since(100)), Fate::Unknown);
}

#[test]
fn a_label_names_the_process_that_wrote_it() {
    let ours = Parent::this(None);
    assert!(ours.start > 0 && !ours.boot.is_empty() && ours.namespace.starts_with("pid:["));
    assert_eq!(Parent::from_label(&ours.to_label()), Some(ours.clone()));
    assert_eq!(ours.fate(&ours, false, see), Fate::Alive);
    for label in ["", "{}", "1234"] {
        assert_eq!(Parent::from_label(label), None, "{label}");
    }
}
