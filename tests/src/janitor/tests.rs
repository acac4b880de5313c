use super::*;

#[test]
fn a_label_names_its_process() {
    let owner = Owner::this_process();
    assert_eq!(Owner::from_label(&owner.to_label()), Some(owner));
    assert_eq!(Owner::from_label("someone else's label"), None);
}

#[test]
fn a_living_process_is_not_gone() {
    assert!(!Owner::this_process().is_gone());
}

#[test]
fn a_reused_process_id_is_another_process() {
    let owner = Owner { start: 1, ..Owner::this_process() };
    assert!(owner.is_gone());
}

#[test]
fn a_process_of_another_boot_is_gone() {
    let owner = Owner { boot: "earlier".to_owned(), ..Owner::this_process() };
    assert!(owner.is_gone());
}

#[test]
fn a_process_in_another_pid_namespace_is_left_alone() {
    let owner = Owner { pid_namespace: "pid:[1]".to_owned(), start: 1, ..Owner::this_process() };
    assert!(!owner.is_gone());
}

#[test]
fn what_only_dead_tests_knew_is_theirs() {
    let ours = crate::sandbox::unique_name();
    assert!(!is_of_the_dead(&format!("/tmp/{ours}/repo")));
    // Process ids end below (proc(5), `pid_max`).
    assert!(is_of_the_dead("/tmp/chores-test-4194305-0123456789abcdef/repo"));
    assert!(is_of_the_dead("chores-test-4194305-0123456789abcdef"));
    assert!(!is_of_the_dead("/var/lib/shop"));
    assert!(!is_of_the_dead("/tmp/chores-test-x/repo"));
}
