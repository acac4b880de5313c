use super::*;

#[test]
fn lines_of_both_versions_are_understood() {
    let text = "9:name=systemd:/docker/x\n4:cpu,cpuacct:/docker/a:b\n0::/docker/x\n";
    let found = memberships(text).unwrap();
    let expected =
        [("name=systemd", "/docker/x"), ("cpu,cpuacct", "/docker/a:b"), ("", "/docker/x")];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(controllers, path)| Membership {
            controllers: controllers.to_owned(),
            path: path.to_owned(),
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn paths_of_another_cgroup_namespace_are_refused() {
    for text in ["0::/../x", "0::/a/../b", "3:pids:x", "", "nonsense"] {
        assert_eq!(memberships(text).unwrap_err().kind, FailureKind::NotNative, "{text}");
    }
}

#[test]
fn a_hierarchy_is_looked_for_under_every_name_it_may_have() {
    assert_eq!(directory_names("name=systemd"), ["systemd"]);
    assert_eq!(directory_names("pids"), ["pids"]);
    assert_eq!(directory_names("cpu,cpuacct"), ["cpu,cpuacct", "cpu", "cpuacct"]);
}

#[test]
fn a_session_cannot_be_named_so_that_it_leaves_its_container() {
    for name in ["ssh-1", "ssh-0a-Z"] {
        assert!(is_session_name(name), "{name}");
    }
    for name in ["", "ssh-", "..", "ssh-../x", "ssh-a/b", "ssh-a\n", "other", "ssh-ü"] {
        assert!(!is_session_name(name), "{name}");
    }
    assert!(!is_session_name(&format!("ssh-{}", "a".repeat(NAME_BYTES_MAX))));
}
