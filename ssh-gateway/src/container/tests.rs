use super::*;

const DEFAULT: &str = r#"{
    "ociVersion": "1.0.2-dev",
    "process": {
        "user": {"uid": 1000, "gid": 5, "additionalGids": [5, 44], "umask": 63},
        "args": ["/bin/sleep", "1"],
        "env": ["PATH=/bin", "HOSTNAME=768f1ff67ae9", "EMPTY=", "ODD"],
        "cwd": "/srv",
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_CHECKPOINT_RESTORE"],
            "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "ambient": ["CAP_KILL"]
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 2048, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": 18446744073709551615, "soft": 0}
        ],
        "noNewPrivileges": true,
        "oomScoreAdj": 300,
        "apparmorProfile": "docker-default"
    },
    "root": {"path": "/x"},
    "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"], "syscalls": []}}
}"#;

fn with(pointer: &str, value: serde_json::Value) -> Result<Specification, SpecificationError> {
    let mut document: serde_json::Value = serde_json::from_str(DEFAULT).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(name.to_owned(), value);
    Specification::parse(&serde_json::to_vec(&document).unwrap())
}

#[test]
fn a_specification_is_read() {
    let found = Specification::parse(DEFAULT.as_bytes()).unwrap();
    assert_eq!((found.uid, found.gid, found.groups.as_slice()), (1000, 5, &[5, 44][..]));
    assert_eq!(found.directory, "/srv");
    assert_eq!(found.environment.len(), 4);
    assert_eq!(found.environment[3].0, b"ODD");
    assert!(found.needs_filter());
    let confinement = found.confinement(&[1; 16]).unwrap();
    assert_eq!(confinement.capabilities.bounding, 1 << 0 | 1 << 5 | 1 << 40);
    assert_eq!(confinement.capabilities.effective, 1);
    assert_eq!(confinement.capabilities.ambient, 1 << 5);
    assert_eq!(confinement.capabilities.inheritable, 0);
    assert_eq!(confinement.rlimits, [(4, 0, u64::MAX), (7, 1024, 2048)]);
    assert!(confinement.no_new_privileges);
    assert_eq!(confinement.oom_score_adj, Some(300));
    assert_eq!(confinement.umask, 0o077);
    assert_eq!(confinement.apparmor.as_deref(), Some("docker-default"));
    assert_eq!(confinement.selinux, None);
    assert_eq!(confinement.seccomp, Some(Opaque(vec![1; 16])));
}

#[test]
fn a_filter_that_must_be_there_is_never_left_out() {
    let found = Specification::parse(DEFAULT.as_bytes()).unwrap();
    assert_eq!(found.confinement(&[]), Err(SpecificationError::NoFilter));
    assert_eq!(found.confinement(&[0; 12]), Err(SpecificationError::TornFilter(12)));
    let unconfined = with("/linux", serde_json::json!({})).unwrap();
    assert!(!unconfined.needs_filter());
    // What the program has installed itself is its own affair.
    assert_eq!(unconfined.confinement(&[0; 8]).unwrap().seccomp, None);
    let absent = with("/linux", serde_json::Value::Null).unwrap();
    assert_eq!(absent.confinement(&[]).unwrap().seccomp, None);
}

#[test]
fn what_cannot_be_reproduced_is_refused() {
    for (pointer, value) in [
        ("/process/scheduler", serde_json::json!({"policy": "SCHED_FIFO"})),
        ("/process/ioPriority", serde_json::json!({"class": "IOPRIO_CLASS_IDLE"})),
        ("/process/execCPUAffinity", serde_json::json!({"initial": "0"})),
        ("/linux/personality", serde_json::json!({"domain": "LINUX32"})),
        ("/linux/seccomp/listenerPath", serde_json::json!("/run/agent.sock")),
        ("/linux/seccomp/flags", serde_json::json!(["SECCOMP_FILTER_FLAG_LOG"])),
        ("/process/capabilities/bounding", serde_json::json!(["CAP_TELEPORT"])),
        ("/process/rlimits", serde_json::json!([{"type": "RLIMIT_LOVE", "hard": 1, "soft": 1}])),
    ] {
        let error = with(pointer, value).unwrap_err();
        assert!(matches!(error, SpecificationError::NotReproducible(_)), "{pointer}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let limit = serde_json::json!({"type": "RLIMIT_CPU", "hard": 1, "soft": 1});
    for (pointer, value) in [
        ("/process/cwd", serde_json::json!("relative")),
        ("/process/cwd", serde_json::json!("/a\0b")),
        ("/process/cwd", serde_json::json!(format!("/{}", "x".repeat(PATH_BYTES_MAX)))),
        ("/process/env", serde_json::json!(["A=\0"])),
        ("/process/env", serde_json::json!(["x".repeat(ENVIRONMENT_BYTES_MAX + 1)])),
        ("/process/env", serde_json::json!(vec![""; VARIABLES_MAX + 1])),
        ("/process/user/uid", serde_json::json!(u32::MAX)),
        ("/process/user/uid", serde_json::json!(-1)),
        ("/process/user/additionalGids", serde_json::json!([u32::MAX])),
        ("/process/user/additionalGids", serde_json::json!(vec![1; GROUPS_MAX + 1])),
        ("/process/rlimits", serde_json::json!([limit, limit])),
        ("/process", serde_json::json!({})),
    ] {
        let error = with(pointer, value).unwrap_err();
        assert!(matches!(error, SpecificationError::Malformed(_)), "{pointer}: {error}");
    }
    assert!(Specification::parse(b"").is_err());
    assert!(Specification::parse("[".repeat(100_000).as_bytes()).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        drop(Specification::parse(&bytes));
    }
}
