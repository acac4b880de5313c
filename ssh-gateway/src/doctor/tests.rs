use std::path::PathBuf;

use chores_common::finding::Status;

use super::compare::{Output, PARTS};
use super::facts::{Facts, HardLimit, Machine, Process, Seen, Toolbox};
use super::*;
use crate::config::Mode;
use crate::policy::ToolboxUse;

fn config(mode: Mode) -> EnterConfig {
    EnterConfig {
        engine: None,
        mode,
        bundles: Vec::new(),
        cgroup_roots: Vec::new(),
        toolbox: None,
        toolbox_use: ToolboxUse::default(),
    }
}

/// Everything that is documented, on a machine like those it is made for.
fn good() -> Facts {
    Facts {
        process: Process {
            uid: Some(0),
            capabilities: u64::MAX >> 23,
            seccomp: Some(0),
            no_new_privileges: Some(false),
        },
        machine: Machine {
            release: "6.1.0-13-amd64".to_owned(),
            missing_calls: Vec::new(),
            shows_filters: true,
            is_user_namespace_whole: true,
            label: None,
            ptrace_scope: Some(1),
            memfd_noexec: Some(0),
        },
        limits: Vec::new(),
        cgroup_root: PathBuf::from("/host/cgroup"),
        toolbox: Toolbox::Ready(vec!["base".to_owned(), "notices".to_owned()]),
        containers: vec![seen("db"), seen("web")],
    }
}

fn seen(name: &str) -> Seen {
    Seen {
        name: name.to_owned(),
        is_visible: true,
        is_cgroup_whole: true,
        cgroup_fault: None,
        has_cgroup_kill: true,
        bounding: Ok(1),
        limits: Vec::new(),
    }
}

fn judged(mode: Mode, change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = good();
    change(&mut facts);
    let mut findings = decide::surroundings(&config(mode), &facts);
    findings.extend(decide::containers(&config(mode), &facts));
    findings
}

/// The findings that are not good, as text.
fn bad(mode: Mode, change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let findings = judged(mode, change);
    let bad = findings.iter().filter(|finding| finding.status != Status::Ok);
    bad.map(|finding| {
        let advice = finding.advice.as_deref().unwrap_or_default();
        format!("{} {}: {} → {advice}", finding.status, finding.name, finding.found)
    })
    .collect()
}

#[test]
fn where_all_is_well_nothing_is_said_against_it() {
    for mode in [Mode::Native, Mode::Auto] {
        assert_eq!(bad(mode, |_| {}), [""; 0]);
    }
    let engine = bad(Mode::Engine, |_| {});
    assert!(engine[0].starts_with("warn mode: engine: every session is degraded"), "{engine:?}");
}

#[test]
fn a_toolbox_that_is_missing_or_of_no_use_is_told() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str, &str); 3] = [
        (|facts| facts.toolbox = Toolbox::Absent, "note toolbox: none", "--toolbox DIR"),
        (
            |facts| facts.toolbox = Toolbox::Faulty("/toolbox/base is not root's".to_owned()),
            "warn toolbox: /toolbox/base is not root's",
            "what is wrong",
        ),
        (
            |facts| facts.toolbox = Toolbox::Unmade("no overlay: EPERM".to_owned()),
            "warn toolbox: no overlay: EPERM",
            "apparmor=unconfined",
        ),
    ];
    for (change, said, advice) in cases {
        let told = bad(Mode::Native, change);
        assert!(
            matches!(told.as_slice(), [one] if one.starts_with(said) && one.contains(advice)),
            "{told:?}"
        );
    }
}

#[test]
fn whatever_is_missing_is_named_with_the_flag_that_mends_it() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str, &str); 20] = [
        (|facts| facts.process.uid = Some(1000), "user: uid 1000", "without --user"),
        (
            |facts| facts.process.capabilities &= !(1 << 21),
            "capability SYS_ADMIN: missing",
            "--cap-add SYS_ADMIN",
        ),
        (
            |facts| facts.process.capabilities &= !(1 << 13),
            "capability NET_RAW: missing",
            "--cap-add NET_RAW",
        ),
        (
            |facts| facts.process.seccomp = Some(2),
            "seccomp: this process has a filter",
            "seccomp=unconfined",
        ),
        (
            |facts| facts.process.no_new_privileges = Some(true),
            "no_new_privs: set",
            "no-new-privileges",
        ),
        (|facts| facts.machine.release = "5.4.0".to_owned(), "kernel: 5.4.0", "5.8 or newer"),
        (
            |facts| facts.machine.missing_calls.push("openat2"),
            "kernel: 6.1.0-13-amd64, without openat2",
            "5.8",
        ),
        (
            |facts| facts.machine.shows_filters = false,
            "kernel: 6.1.0-13-amd64, without CONFIG_CHECK",
            "another kernel",
        ),
        (
            |facts| facts.machine.label = Some("docker-default (enforce)".to_owned()),
            "lsm: AppArmor confines this process: docker-default (enforce)",
            "apparmor=unconfined",
        ),
        (
            |facts| facts.machine.label = Some("system_u:system_r:container_t:s0:c1,c2".to_owned()),
            "lsm: SELinux confines this process",
            "label=type:spc_t",
        ),
        (
            |facts| facts.machine.ptrace_scope = Some(3),
            "yama: kernel.yama.ptrace_scope is 3",
            "below 3",
        ),
        (
            |facts| facts.containers.iter_mut().for_each(|one| one.is_visible = false),
            "pid namespace: ",
            "--pid=host",
        ),
        (
            |facts| facts.containers.iter_mut().for_each(|one| one.is_cgroup_whole = false),
            "cgroup namespace: ",
            "--cgroupns=host",
        ),
        (
            |facts| {
                facts
                    .containers
                    .iter_mut()
                    .for_each(|one| one.cgroup_fault = Some("none".to_owned()));
            },
            "cgroups: none",
            "/sys/fs/cgroup:/host/cgroup",
        ),
        (
            |facts| {
                facts
                    .containers
                    .iter_mut()
                    .for_each(|one| one.bounding = Err("nowhere".to_owned()));
            },
            "specifications: nowhere",
            ":/bundles:ro",
        ),
        (
            |facts| facts.containers[0].bounding = Err("torn".to_owned()),
            "container db: specifications: torn",
            ":/bundles:ro",
        ),
        (
            |facts| facts.containers[1].cgroup_fault = Some("gone".to_owned()),
            "container web: cgroups: gone",
            "/host/cgroup",
        ),
        (
            |facts| facts.containers[1].is_visible = false,
            "container web: its first process",
            "ask again",
        ),
        (
            |facts| {
                facts.process.capabilities &= !(1 << 12);
                facts.containers[0].bounding = Ok(1 << 12);
            },
            "container db: it may have NET_ADMIN, which the gateway cannot give",
            "--cap-add NET_ADMIN",
        ),
        (
            |facts| {
                let limit = |value| vec![HardLimit { name: "Max open files".to_owned(), value }];
                facts.process.capabilities &= !(1 << 24);
                facts.limits = limit(1024);
                facts.containers[0].limits = limit(u64::MAX);
            },
            "container db: its limits `Max open files` are higher",
            "without --ulimit",
        ),
    ];
    for (change, said, advice) in cases {
        for (mode, status) in [(Mode::Native, "fail"), (Mode::Auto, "warn"), (Mode::Engine, "note")]
        {
            let told = bad(mode, change);
            let found = told
                .iter()
                .any(|line| line.starts_with(&format!("{status} {said}")) && line.contains(advice));
            assert!(found, "{said}: {told:?}");
        }
    }
    let told = bad(Mode::Auto, |facts| facts.machine.memfd_noexec = Some(2));
    assert!(told[0].starts_with("fail memory files: "), "{told:?}");
}

#[test]
fn what_is_only_worth_to_know_degrades_nothing() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str); 3] = [
        (|facts| facts.containers.clear(), "note containers: none is running"),
        (
            |facts| facts.containers.iter_mut().for_each(|one| one.has_cgroup_kill = false),
            "note cgroup.kill: is not here",
        ),
        (|facts| facts.machine.is_user_namespace_whole = false, "note user namespace: "),
    ];
    for (change, said) in cases {
        let told = bad(Mode::Native, change);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(said), "{told:?}");
    }
    let fine: [Change; 3] = [
        |facts| facts.machine.label = Some("unconfined".to_owned()),
        |facts| facts.machine.label = Some("system_u:system_r:spc_t:s0".to_owned()),
        |facts| facts.limits = vec![HardLimit { name: "Max open files".to_owned(), value: 1 }],
    ];
    for change in fine {
        assert_eq!(bad(Mode::Native, change), [""; 0]);
    }
}

#[test]
fn files_of_the_kernel_are_read() {
    let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nNoNewPrivs:\t1\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n\
        Seccomp_filters:\t1\n";
    let process = Process::parse(status);
    assert_eq!((process.uid, process.seccomp), (Some(1000), Some(2)));
    assert_eq!((process.capabilities, process.no_new_privileges), (0xa804_25fb, Some(true)));
    assert_eq!(Process::parse("nothing").seccomp, None);

    let limits = facts::hard_limits(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 524288               files     \n\
         Max cpu time              unlimited            unlimited            seconds   \n\
         torn\n",
    );
    let limits: Vec<_> = limits.iter().map(|limit| (limit.name.as_str(), limit.value)).collect();
    assert_eq!(limits, [("Max open files", 524_288), ("Max cpu time", u64::MAX)]);

    let id = "ab".repeat(32);
    for (line, wanted) in [
        (format!("0::/docker/{id}"), true),
        (format!("5:pids:/system.slice/docker-{id}.scope"), true),
        (format!("0::/docker/{id}00"), false),
        ("0::/".to_owned(), false),
    ] {
        assert_eq!(facts::names_container(&line, &id), wanted, "{line}");
    }
}

#[test]
fn this_machine_can_be_looked_at() {
    let facts = Facts::read(&config(Mode::Auto), &[], None);
    assert!(!facts.machine.release.is_empty());
    assert!(facts.process.uid.is_some() && !facts.limits.is_empty());
    let findings = decide::surroundings(&config(Mode::Auto), &facts);
    assert!(findings.iter().any(|finding| finding.name == "kernel"));
}

fn output(text: &str) -> Output {
    Output { bytes: text.as_bytes().to_vec(), status: 0 }
}

fn compared(name: &str, ours: &str, engines: &str) -> Finding {
    let part = PARTS.into_iter().find(|part| part.name == name).unwrap();
    compare::finding(part, &output(ours), &output(engines)).unwrap()
}

#[test]
fn the_same_is_the_same_and_what_differs_is_told() {
    for (part, ours, engines) in [
        ("status", "Pid:\t1\nCapEff:\t0\nVmRSS:\t1 kB\n", "Pid:\t2\nCapEff:\t0\nVmRSS:\t2 kB\n"),
        ("cgroup", "5:pids:/a/b\n0::/a/b/ssh-doctor-1\n", "5:pids:/a/b\n0::/a/b\n"),
        ("cgroup", "0::/ssh-1\n", "0::/\n"),
        ("environment", "A=1\0B=2\0", "B=2\0A=1\0"),
        (
            "namespaces",
            "lrwx 1 root root 0 Nov 24 pid -> pid:[1]\n",
            "lrwx 1 0 0 0 Jan 1 pid -> pid:[1]\n",
        ),
        ("label", "", ""),
    ] {
        assert_eq!(compared(part, ours, engines).status, Status::Ok, "{part}");
    }
    for (part, ours, engines, said) in [
        ("status", "CapEff:\t1\n", "CapEff:\t0\n", "ours: CapEff: 1; the engine's: CapEff: 0"),
        (
            "cgroup",
            "5:pids:/a/ssh-1\n",
            "5:pids:/a\n",
            "ours: 5:pids:/a/ssh-1; the engine's: 5:pids:/a",
        ),
        ("environment", "A=secret\0", "", "ours: A"),
        ("environment", "A=1\0A=1\0", "A=1\0", "2 lines, and 1 by the engine's exec"),
        ("mounts", "1 2 3:4 /\u{1b}[2J /\n", "", "ours: 1 2 3:4 /\u{fffd}[2J /"),
    ] {
        let finding = compared(part, ours, engines);
        assert_eq!((finding.status, finding.found.as_str()), (Status::Warn, said), "{part}");
    }
    let many: String = (0..50).map(|number| format!("line {number}\n")).collect();
    assert!(compared("limits", &many, "").found.ends_with("; and 30 more"));
    let missing = Output { bytes: Vec::new(), status: 127 };
    assert_eq!(
        compare::finding(PARTS[0], &missing, &Output { status: 126, ..missing.clone() }),
        None
    );
    let one = compare::finding(PARTS[0], &missing, &output("")).unwrap();
    assert_eq!(one.found, "`cat /proc/self/status` ends with 127, and with 0 by the engine");
}
