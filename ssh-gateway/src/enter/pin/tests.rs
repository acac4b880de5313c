use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_container_is_named_by_its_whole_id_only() {
    let cases = [
        (format!("0::/docker/{ID}"), true),
        (format!("4:memory:/system.slice/docker-{ID}.scope\n"), true),
        (format!("12:cpu,cpuacct:/\n0::/machine.slice/libpod-{ID}.scope/container"), true),
        (format!("0::/docker/{ID}0"), false),
        (format!("0::/docker/f{ID}"), false),
        (format!("0::/docker/{}", ID.trim_end_matches('f')), false),
        (format!("{ID}:{ID}:/"), false),
        (String::new(), false),
    ];
    for (cgroup, expected) in cases {
        assert_eq!(names_container(&cgroup, ID), expected, "{cgroup}");
    }
}

#[test]
fn our_own_process_is_not_a_container() {
    let pid = i32::try_from(std::process::id()).unwrap();
    let failure = Pinned::new(&Pin { pid, container_id: ID.to_owned() }).unwrap_err();
    assert_eq!(failure.kind, FailureKind::TargetGone);
}

#[test]
fn what_is_no_process_is_gone() {
    for pid in [0, -1, i32::MIN, i32::MAX] {
        let failure = Pinned::new(&Pin { pid, container_id: ID.to_owned() }).unwrap_err();
        assert_eq!(failure.kind, FailureKind::TargetGone, "{pid}");
    }
}
