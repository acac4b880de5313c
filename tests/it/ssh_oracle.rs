//! The oracle: what a program may do when `docker exec` started it, and when we did, is the same.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::exec::CreateExecOptions;
use bollard::models::{HostConfig, ResourcesUlimits};
use e2e::engine::{Container, Engine, Spec, connect};
use e2e::images;
use e2e::process::{Run, find_program};
use e2e::sandbox::Sandbox;
use e2e::second_engine::{SUBORDINATE_ID, SecondEngine};
use e2e::ssh_gateway::{Gateway, Setup};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, BINARY, PROBE, Scene, line};

/// A difference that is meant to be.
struct Difference {
    /// Of which value: its path in the answer of the probe, a star at the end for all that begin so.
    path: &'static str,
    /// What is compared of it; `None` for nothing.
    compared: Option<fn(&str) -> String>,
    #[expect(dead_code, reason = "the table is read by people")]
    why: &'static str,
}

/// Everything that may differ. What is not here must be equal.
const DIFFERENCES: &[Difference] = &[
    Difference { path: "status.Pid", compared: None, why: "another process" },
    Difference { path: "status.Tgid", compared: None, why: "another process" },
    Difference {
        path: "status.PPid",
        compared: None,
        why: "started by our supervisor, which reaps",
    },
    Difference { path: "status.NS*", compared: None, why: "numbers of process, group and session" },
    Difference {
        path: "status.FDSize",
        compared: None,
        why: "size of the table, not what is open",
    },
    Difference { path: "status.Vm*", compared: None, why: "memory in use" },
    Difference { path: "status.Rss*", compared: None, why: "memory in use" },
    Difference { path: "status.voluntary_ctxt_switches", compared: None, why: "a counter" },
    Difference { path: "status.nonvoluntary_ctxt_switches", compared: None, why: "a counter" },
    Difference {
        path: "status.SigQ",
        compared: Some(behind_slash),
        why: "signals that wait for all processes of the user; the limit behind it must be equal",
    },
    Difference {
        path: "status.SigIgn",
        compared: Some(without_reserved_signals),
        why: "signals 32 and 33 are kept to C libraries: the engine hands on what it was started with, we reset them",
    },
    Difference {
        path: "limits.Max open files",
        compared: Some(hard_limit),
        why: "runc 1.1 at times loses the soft limit of what it executes (opencontainers/runc#4195); a test of its \
              own looks at ours",
    },
    Difference { path: "files.autogroup", compared: None, why: "the number of a session" },
    Difference {
        path: "files.cgroup",
        compared: Some(without_session_group),
        why: "a cgroup of the session below that of the container, so that nothing is left of it",
    },
    Difference { path: "environment.SSH_*", compared: None, why: "what SSH tells its sessions" },
    Difference { path: "environment.USER", compared: None, why: "SSH sets it (OpenSSH does)" },
    Difference { path: "environment.LOGNAME", compared: None, why: "SSH sets it (OpenSSH does)" },
    Difference { path: "environment.SHELL", compared: None, why: "SSH sets it (OpenSSH does)" },
    Difference { path: "environment.PWD", compared: None, why: "the shell sets it" },
    Difference { path: "environment.OLDPWD", compared: None, why: "the shell sets it" },
    Difference { path: "environment.SHLVL", compared: None, why: "the shell sets it" },
    Difference { path: "environment._", compared: None, why: "the shell sets it" },
    Difference {
        path: "directory",
        compared: None,
        why: "a session begins at home (OpenSSH's does)",
    },
    Difference { path: "terminal.size", compared: None, why: "that of the client" },
    Difference { path: "terminal.modes", compared: None, why: "those of the client" },
    Difference {
        path: "terminal.path",
        compared: None,
        why: "the next number of a pseudo-terminal",
    },
    Difference {
        path: "terminal.device",
        compared: None,
        why: "the next number of a pseudo-terminal",
    },
    Difference {
        path: "descriptors.*",
        compared: Some(without_terminal_number),
        why: "the next number of a pseudo-terminal",
    },
];

/// A mask of signals, bit N-1 being signal N.
fn without_reserved_signals(mask: &str) -> String {
    /// Of the NPTL and of musl: no program can set them by the C library.
    const RESERVED: u64 = 1 << (32 - 1) | 1 << (33 - 1);
    u64::from_str_radix(mask, 16)
        .map_or_else(|error| error.to_string(), |mask| format!("{:x}", mask & !RESERVED))
}

fn hard_limit(value: &str) -> String {
    value.rsplit(' ').next().unwrap_or_default().to_owned()
}

fn behind_slash(value: &str) -> String {
    value.rsplit('/').next().unwrap_or_default().to_owned()
}

fn without_session_group(value: &str) -> String {
    let lines = value.lines().map(|line| match line.rsplit_once("/ssh-") {
        Some((container, _)) if container.is_empty() || container.ends_with(':') => {
            format!("{container}/")
        }
        Some((container, _)) => container.to_owned(),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn without_terminal_number(value: &str) -> String {
    match value.split_once("/dev/pts/") {
        Some((before, number)) => {
            format!("{before}/dev/pts/{}", number.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => value.to_owned(),
    }
}

/// The answer of the probe as one value for each path.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::String(text) => drop(into.insert(prefix.to_owned(), text.clone())),
        other => drop(into.insert(prefix.to_owned(), other.to_string())),
    }
}

/// What differs and may not.
fn differences(engine: &Value, ours: &Value) -> Vec<String> {
    let (mut theirs, mut mine) = (BTreeMap::new(), BTreeMap::new());
    flatten("", engine, &mut theirs);
    flatten("", ours, &mut mine);
    let paths: std::collections::BTreeSet<_> = theirs.keys().chain(mine.keys()).cloned().collect();
    let mut found = Vec::new();
    for path in paths {
        let rule = DIFFERENCES.iter().find(|rule| match rule.path.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == rule.path,
        });
        let compared = |value: Option<&String>| -> Option<String> {
            match rule {
                Some(Difference { compared: None, .. }) => None,
                Some(Difference { compared: Some(part), .. }) => value.map(|value| part(value)),
                None => value.cloned(),
            }
        };
        let (one, other) = (compared(theirs.get(&path)), compared(mine.get(&path)));
        if one != other {
            found.push(format!("{path}\n    docker exec: {one:?}\n    ours:        {other:?}"));
        }
    }
    found
}

/// One shape of container, entered both ways.
struct Case<'a> {
    gateway: &'a Gateway,
    container: &'a Container,
    /// `--user` of `docker exec`, and our login's user.
    user: Option<&'a str>,
    has_shell: bool,
}

impl<'a> Case<'a> {
    fn of(gateway: &'a Gateway, container: &'a Container) -> Self {
        Self { gateway, container, user: None, has_shell: true }
    }

    fn engine(&self, terminal: bool) -> Value {
        let options = CreateExecOptions {
            cmd: Some(vec!["/probe".to_owned()]),
            attach_stdin: Some(true),
            tty: Some(terminal),
            user: self.user.map(str::to_owned),
            ..CreateExecOptions::default()
        };
        let output = self.container.exec_with(options).expect_code(0);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn ours(&self, terminal: bool) -> Value {
        let login = match self.user {
            Some(user) => format!("{}+{user}", self.container.name()),
            None => self.container.name().to_owned(),
        };
        let command = if self.has_shell { "exec /probe" } else { "/probe" };
        let run = self.gateway.ssh(&login).env("TERM", "xterm");
        let run = run.arg(if terminal { "-tt" } else { "-T" }).arg(command);
        let finished = run.deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(finished.code(), Some(0), "{finished}\n{}", self.gateway.log());
        finished.json()
    }

    fn assert_equal(&self) {
        for terminal in [false, true] {
            let found = differences(&self.engine(terminal), &self.ours(terminal));
            let what = if terminal { "with a terminal" } else { "with pipes" };
            assert!(found.is_empty(), "{what}, user {:?}:\n{}", self.user, found.join("\n"));
        }
    }
}

/// Enters a container of this shape both ways, as its own user and as these.
fn compare(shape: impl FnOnce(&Engine, Spec) -> Spec, users: &[&str]) {
    let Some(engine) = connect() else { return };
    let Some(scene) = Scene::new(|spec| shape(&engine, spec), |setup| setup) else { return };
    Case::of(&scene.gateway, &scene.container).assert_equal();
    for user in users {
        Case { user: Some(user), ..Case::of(&scene.gateway, &scene.container) }.assert_equal();
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

fn host(spec: Spec, change: impl FnOnce(&mut HostConfig)) -> Spec {
    let mut spec = spec;
    change(&mut spec.host);
    spec
}

#[test]
fn default_container_is_entered_as_docker_exec_does() {
    compare(|_, spec| spec, &["www", "1000", "1234", "0"]);
}

/// Settings that a process inherits, all of them other than those of the engine.
const STARTED_OTHERWISE: &str = "umask 077; echo 500 > /proc/self/oom_score_adj; \
    echo 0x7f > /proc/self/coredump_filter; ulimit -S -n 900; trap '' HUP INT USR1; cd /tmp";

#[test]
fn how_the_gateway_was_started_does_not_show() {
    let words = "taskset --cpu-list 0 nice -n 5 ionice --class 3 chrt --batch 0 setarch --addr-no-randomize";
    for program in ["taskset", "nice", "ionice", "chrt", "setarch"] {
        if e2e::ssh_gateway::program(program, "util-linux").is_none() {
            return;
        }
    }
    let otherwise = |setup: Setup| setup.by(STARTED_OTHERWISE, words);
    let is_open = |spec| {
        // The probe can see more of itself without a filter.
        host(spec, |host| host.security_opt = Some(vec!["seccomp=unconfined".to_owned()]))
    };
    for is_unconfined in [false, true] {
        let shape = |spec| if is_unconfined { is_open(spec) } else { spec };
        let Some(scene) = Scene::new(shape, otherwise) else { return };
        Case::of(&scene.gateway, &scene.container).assert_equal();
        Case { user: Some("www"), ..Case::of(&scene.gateway, &scene.container) }.assert_equal();
        let engine = scene.container.sh("ionice").stdout_text();
        assert_eq!(line(&scene.sh("ionice")), engine.trim_end());
        scene.gateway.assert_idle(&[&scene.container]);
    }
}

#[test]
fn user_of_the_container_is_kept() {
    compare(
        |_, spec| {
            host(Spec { user: Some("1000:1000".to_owned()), ..spec }, |host| {
                host.group_add = Some(vec!["44".to_owned(), "extra".to_owned()]);
            })
        },
        &["0"],
    );
}

#[test]
fn added_groups_are_kept() {
    compare(
        |_, spec| {
            host(spec, |host| host.group_add = Some(vec!["44".to_owned(), "3000".to_owned()]))
        },
        &["www"],
    );
}

#[test]
fn no_capability_comes_back_and_no_new_privileges_stays() {
    compare(
        |_, spec| {
            host(Spec { user: Some("www".to_owned()), ..spec }, |host| {
                host.cap_drop = Some(vec!["ALL".to_owned()]);
                host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
            })
        },
        &["0"],
    );
}

#[test]
fn dropped_capabilities_stay_dropped_for_root() {
    compare(|_, spec| host(spec, |host| host.cap_drop = Some(vec!["ALL".to_owned()])), &[]);
}

#[test]
fn added_capabilities_are_given() {
    let added = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"].map(str::to_owned).to_vec();
    compare(|_, spec| Spec { capabilities: added, ..spec }, &["www"]);
}

#[test]
fn container_without_seccomp_is_entered_without() {
    compare(
        |_, spec| {
            host(spec, |host| host.security_opt = Some(vec!["seccomp=unconfined".to_owned()]))
        },
        &[],
    );
}

/// Calls that do not matter to the probe are forbidden, with two kinds of answers.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["acct", "swapon"], "action": "SCMP_ACT_ERRNO"},
                 {"names": ["reboot"], "action": "SCMP_ACT_KILL"}]}"#;

#[test]
fn seccomp_profile_of_the_container_holds() {
    let security = vec![format!("seccomp={PROFILE}")];
    compare(|_, spec| host(spec, |host| host.security_opt = Some(security)), &["www"]);
}

#[test]
fn read_only_root_stays_read_only() {
    compare(|_, spec| host(spec, |host| host.readonly_rootfs = Some(true)), &[]);
}

#[test]
fn limits_of_the_container_bind_the_session() {
    compare(
        |_, spec| {
            host(spec, |host| {
                host.pids_limit = Some(50);
                host.memory = Some(64 << 20);
                host.nano_cpus = Some(500_000_000);
                host.cpuset_cpus = Some("0".to_owned());
                host.oom_score_adj = Some(300);
                host.ulimits = Some(vec![
                    ResourcesUlimits {
                        name: Some("nofile".to_owned()),
                        soft: Some(512),
                        hard: Some(600),
                    },
                    ResourcesUlimits {
                        name: Some("core".to_owned()),
                        soft: Some(0),
                        hard: Some(0),
                    },
                ]);
            })
        },
        &["www"],
    );
}

#[test]
fn soft_limit_of_open_files_is_that_of_the_container() {
    let files =
        ResourcesUlimits { name: Some("nofile".to_owned()), soft: Some(512), hard: Some(600) };
    let limited = |spec| host(spec, |host| host.ulimits = Some(vec![files]));
    let Some(scene) = Scene::new(limited, |setup| setup) else { return };
    for login in ["", "+www"] {
        let run = scene.gateway.ssh(&format!("{}{login}", scene.container.name()));
        let said = run.arg("ulimit -S -n; ulimit -H -n").deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(line(&said), "512\n600", "{login:?}");
    }
}

#[test]
fn container_without_network_is_entered() {
    compare(|_, spec| Spec { network: "none".to_owned(), ..spec }, &[]);
}

#[test]
fn network_of_another_container_is_entered() {
    let Some(engine) = connect() else { return };
    let Some(image) = images::ssh_target(&engine, Path::new(PROBE)) else { return };
    let other = engine.start(Spec::new(image.name(), ["/probe", "hold"]));
    let network = format!("container:{}", other.id());
    compare(|_, spec| Spec { network, ..spec }, &[]);
}

#[test]
fn container_in_namespaces_of_the_host_is_entered() {
    compare(
        |_, spec| {
            host(Spec { network: "host".to_owned(), ..spec }, |host| {
                host.pid_mode = Some("host".to_owned());
                host.ipc_mode = Some("host".to_owned());
                host.uts_mode = Some("host".to_owned());
            })
        },
        &["www"],
    );
}

#[test]
fn private_cgroup_namespace_is_entered() {
    compare(
        |_, spec| {
            host(spec, |host| {
                host.cgroupns_mode = Some(bollard::models::HostConfigCgroupnsModeEnum::PRIVATE);
            })
        },
        &[],
    );
}

#[test]
fn container_with_a_terminal_and_init_is_entered() {
    compare(
        |_, spec| {
            host(Spec { terminal: true, ..spec }, |host| {
                host.init = find_program("docker-init").map(|_| true);
                host.tmpfs = Some(HashMap::from([("/run".to_owned(), "size=1m".to_owned())]));
            })
        },
        &[],
    );
}

#[test]
fn image_without_anything_but_its_program_is_entered() {
    let (Some(engine), Some(setup)) = (connect(), Setup::new(BINARY)) else { return };
    let image = images::ssh_scratch(&engine, Path::new(PROBE));
    let container = engine.start(Spec::new(image.name(), ["/probe", "hold"]));
    let gateway = setup.start();
    Case { has_shell: false, ..Case::of(&gateway, &container) }.assert_equal();
    // A terminal, too, of a container that has nothing in it.
    gateway.assert_idle(&[&container]);
}

#[test]
fn user_namespaces_of_containers_are_entered() {
    let Some(setup) = Setup::new(BINARY) else { return };
    let sandbox = Sandbox::new();
    let Some(second) = SecondEngine::start(&sandbox, true) else { return };
    let engine = second.engine();
    let Some(image) = images::ssh_target_of_root(engine, Path::new(PROBE)) else { return };
    let container = engine.start(Spec::new(image.name(), ["/probe", "hold"]));
    let map = container.sh("cat /proc/self/uid_map").stdout_text();
    assert!(map.contains(&SUBORDINATE_ID.to_string()), "user namespaces are not in use: {map}");
    let gateway =
        setup.env("DOCKER_HOST", &second.address()).arg("--bundles").arg(second.bundles()).start();
    Case::of(&gateway, &container).assert_equal();
    Case { user: Some("www"), ..Case::of(&gateway, &container) }.assert_equal();
    gateway.assert_idle(&[&container]);
}

#[test]
fn the_session_is_confined_by_the_filter_itself_and_not_by_its_number() {
    // `Seccomp: 2` says that there is a filter; that it is the right one shows in what it forbids.
    let Some(scene) = Scene::debian(|setup| setup) else { return };
    let script = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); \
                  print([(n, c.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno()) for n in \
                  (175, 176, 246, 250, 298, 321, 425, 308, 272, 163, 167, 169)])";
    let engine = scene.container.exec(["python3", "-c", script]).expect_code(0).stdout_text();
    let ours = scene.ssh().arg(format!("python3 -c '{script}'")).finish();
    assert_eq!(ours.stdout_text(), engine, "{ours}");
    assert_eq!(
        scene.container.exec(["unshare", "--user", "true"]).code,
        i64::from(scene.sh("unshare --user true").code().unwrap_or(-1)),
    );
}

#[test]
fn a_session_dies_with_the_memory_limit_of_its_container() {
    let Some(scene) =
        Scene::new(|spec| host(spec, |host| host.memory = Some(32 << 20)), |setup| setup)
    else {
        return;
    };
    let said = scene.sh("x=$(head -c 100000000 /dev/zero | tr '\\0' 'x'); echo survived");
    assert!(!said.stdout_text().contains("survived"), "{said}");
    assert!(scene.container.inspect().state.and_then(|state| state.running) == Some(true));
}

#[test]
fn doctor_finds_no_difference_itself() {
    let Some(scene) = Scene::busybox() else { return };
    Run::new(BINARY).args(["doctor", scene.container.name()]).succeed();
    let nobody = format!("{}x", scene.container.name());
    let said = Run::new(BINARY).args(["doctor", &nobody]).finish();
    assert_eq!(said.code(), Some(1), "{said}");
    let wanted = format!("there is no container {nobody}; did you mean {}", scene.container.name());
    assert!(said.stdout_text().contains(&wanted), "{said}");
    assert!(said.stdout_text().contains("name one that runs"), "{said}");
}

#[test]
fn differences_are_seen() {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let same = value(
        r#"{"status": {"Pid": "1", "CapEff": "3"}, "files": {"cgroup": "1:cpu:/docker/a\n0::/docker/a"}}"#,
    );
    let ours = value(
        r#"{"status": {"Pid": "2", "CapEff": "3"}, "files": {"cgroup": "1:cpu:/docker/a\n0::/docker/a/ssh-1"}}"#,
    );
    assert_eq!(differences(&same, &ours), Vec::<String>::new());
    let more = value(
        r#"{"status": {"Pid": "2", "CapEff": "7"}, "files": {"cgroup": "1:cpu:/\n0::/docker/a/ssh-1"}}"#,
    );
    assert_eq!(differences(&same, &more).len(), 2);
}
