//! What facts mean: from values to findings.

use chores_common::engine::{EngineError, EngineErrorKind, EngineVersion};
use chores_common::finding::{Finding, Status};

use super::facts::{Facts, HardLimit, Machine, Process, Seen, Toolbox};
use crate::capability;
use crate::config::{EnterConfig, Mode};
use crate::login::shown;

/// How the engine's own specifications are mounted.
const BUNDLES_ADVICE: &str = "-v /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby:/bundles:ro \
     (containerd of the system: -v /run/containerd/io.containerd.runtime.v2.task/moby:/bundles:ro)";

/// Capabilities that the gateway works with: what each is for, and what is not possible without it.
const NEEDED: [(&str, &str); 10] = [
    (
        "SYS_ADMIN",
        "joins namespaces, reads and installs seccomp filters; without it nothing is native",
    ),
    ("SYS_CHROOT", "joins the mount namespace; without it nothing is native"),
    (
        "SYS_PTRACE",
        "looks at the processes of other users; without it their containers are not native",
    ),
    ("SETUID", "becomes the user; without it nothing is native"),
    ("SETGID", "takes on the groups; without it nothing is native"),
    ("SETPCAP", "gives up capabilities for good; without it nothing is native"),
    ("CHOWN", "gives terminals and pipes to the user; without it programs cannot open their own"),
    ("DAC_OVERRIDE", "reads keys and specifications of others, and is given to root inside"),
    ("KILL", "ends the sessions of other users, and is given to root inside"),
    ("FOWNER", "is given to root inside"),
];

/// Capabilities that an engine gives to root in a container by default, and that we must hold to give them.
const GIVEN: [&str; 6] =
    ["FSETID", "NET_BIND_SERVICE", "NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];

/// Newest kernel whose calls are needed: `setns` with a pidfd.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// The capability by which hard limits are raised.
const SYS_RESOURCE: &str = "SYS_RESOURCE";

/// How bad it is that native entry is not possible.
fn not_native(config: &EnterConfig) -> Status {
    match config.mode {
        Mode::Native => Status::Fail,
        Mode::Auto => Status::Warn,
        Mode::Engine => Status::Note,
    }
}

/// No engine: nothing can be entered.
pub(super) fn no_engine(error: &Option<EngineError>) -> Finding {
    let Some(error) = error else {
        let advice = "a container whose exec hangs holds it up: `docker ps` answers, `docker inspect NAME` does not";
        return Finding::new("engine", Status::Fail, "does not answer in time", advice);
    };
    let advice = match error.kind() {
        EngineErrorKind::Denied => "run as root, or in the group that owns the socket",
        _ => "mount the socket: -v /var/run/docker.sock:/var/run/docker.sock:ro",
    };
    Finding::new("engine", Status::Fail, error.to_string(), advice)
}

pub(super) fn engine(version: &EngineVersion) -> Finding {
    let (engine, api) = (shown(&version.engine), shown(&version.api));
    Finding::ok("engine", format!("answers, {engine}, API {api}"))
}

/// This process and this machine.
pub(super) fn surroundings(config: &EnterConfig, facts: &Facts) -> Vec<Finding> {
    let bad = not_native(config);
    let mut findings =
        vec![mode(config.mode), user(&facts.process, bad), kernel(&facts.machine, bad)];
    findings.extend(capabilities(&facts.process, bad));
    findings.push(seccomp(&facts.process, bad));
    findings.push(no_new_privileges(&facts.process, bad));
    findings.push(label(&facts.machine, bad));
    findings.extend(machine(&facts.machine, bad));
    findings.push(toolbox(&facts.toolbox));
    findings
}

fn mode(mode: Mode) -> Finding {
    match mode {
        Mode::Native => Finding::ok("mode", "native: what cannot be entered natively is refused"),
        Mode::Auto => Finding::ok("mode", "auto: what cannot be entered natively is degraded"),
        Mode::Engine => Finding::new(
            "mode",
            Status::Warn,
            "engine: every session is degraded: no forwards, agents, SFTP of our own; programs may outlive their \
             sessions",
            "--mode auto",
        ),
    }
}

fn user(process: &Process, bad: Status) -> Finding {
    match process.uid {
        Some(0) => Finding::ok("user", "root"),
        uid => {
            let uid = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
            Finding::new("user", bad, format!("uid {uid}"), "run as root: without --user")
        }
    }
}

fn kernel(machine: &Machine, bad: Status) -> Finding {
    let release = &machine.release;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version < KERNEL_MIN || !machine.missing_calls.is_empty() {
        let missing = machine.missing_calls.join(", ");
        let missing =
            if missing.is_empty() { String::new() } else { format!(", without {missing}") };
        let advice = "Linux 5.8 or newer is needed; where calls are filtered: --security-opt seccomp=unconfined";
        return Finding::new("kernel", bad, format!("{release}{missing}"), advice);
    }
    if !machine.shows_filters {
        return Finding::new(
            "kernel",
            bad,
            format!("{release}, without CONFIG_CHECKPOINT_RESTORE: seccomp filters cannot be read"),
            "use another kernel; containers with seccomp=unconfined are native with this one too",
        );
    }
    Finding::ok("kernel", release.clone())
}

fn holds(process: &Process, name: &str) -> bool {
    capability::number(name).is_some_and(|bit| process.capabilities >> bit & 1 == 1)
}

fn capabilities(process: &Process, bad: Status) -> Vec<Finding> {
    let given = GIVEN.into_iter().map(|name| (name, "is given to root inside"));
    let missing: Vec<_> = NEEDED
        .into_iter()
        .chain(given)
        .filter(|(name, _)| !holds(process, name))
        .map(|(name, what)| {
            let found = format!("missing: {what}");
            Finding::new(format!("capability {name}"), bad, found, format!("--cap-add {name}"))
        })
        .collect();
    if missing.is_empty() {
        let count = NEEDED.len() + GIVEN.len();
        return vec![Finding::ok("capabilities", format!("all {count} that are documented"))];
    }
    missing
}

fn seccomp(process: &Process, bad: Status) -> Finding {
    match process.seccomp {
        Some(0) => Finding::ok("seccomp", "this process has no filter"),
        _ => Finding::new(
            "seccomp",
            bad,
            "this process has a filter: those of containers cannot be read, and this one would be added to them",
            "--security-opt seccomp=unconfined",
        ),
    }
}

fn no_new_privileges(process: &Process, bad: Status) -> Finding {
    match process.no_new_privileges {
        Some(false) => Finding::ok("no_new_privs", "not set"),
        _ => Finding::new(
            "no_new_privs",
            bad,
            "set: sudo and the like would not work in any session",
            "leave out --security-opt no-new-privileges",
        ),
    }
}

fn label(machine: &Machine, bad: Status) -> Finding {
    let Some(label) = &machine.label else {
        return Finding::ok("lsm", "no security module confines this process");
    };
    let shown = shown(label);
    // SELinux: user:role:type:level; AppArmor: `profile (mode)`.
    if let [_, _, kind, ..] = label.split(':').collect::<Vec<_>>().as_slice() {
        if ["spc_t", "unconfined_t"].contains(kind) {
            return Finding::ok("lsm", format!("SELinux: {shown}"));
        }
        let advice = "--security-opt label=type:spc_t";
        return Finding::new("lsm", bad, format!("SELinux confines this process: {shown}"), advice);
    }
    if label == "unconfined" || label.ends_with("(complain)") {
        return Finding::ok("lsm", shown);
    }
    let found = format!("AppArmor confines this process: {shown}");
    Finding::new("lsm", bad, found, "--security-opt apparmor=unconfined")
}

/// What most machines do not have, and is only told where they do.
fn machine(machine: &Machine, bad: Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !machine.is_user_namespace_whole {
        findings.push(Finding::new(
            "user namespace",
            Status::Note,
            "this process is in a user namespace: only containers of the same one can be entered",
            "--userns=host, where the engine runs as root",
        ));
    }
    if machine.ptrace_scope == Some(3) {
        let found = "kernel.yama.ptrace_scope is 3: seccomp filters cannot be read";
        findings.push(Finding::new(
            "yama",
            bad,
            found,
            "boot with kernel.yama.ptrace_scope below 3",
        ));
    }
    if machine.memfd_noexec.is_some_and(|value| value >= 2) {
        let found =
            "vm.memfd_noexec is 2: no program can be run from memory, so nothing can be started";
        let advice = "sysctl vm.memfd_noexec=1, in the pid namespace of the gateway";
        findings.push(Finding::new("memory files", Status::Fail, found, advice));
    }
    findings
}

/// Sessions work without one, but for images that have nothing.
fn toolbox(found: &Toolbox) -> Finding {
    match found {
        Toolbox::Ready(names) => {
            Finding::ok("toolbox", format!("can be mounted: {}", names.join(", ")))
        }
        Toolbox::Absent => Finding::new(
            "toolbox",
            Status::Note,
            "none: images without a shell have no shell in sessions either",
            "--toolbox DIR; the image of ssh-gateway has one",
        ),
        Toolbox::Faulty(fault) => {
            let advice = "mend what is wrong with it, or make another: deploy/toolbox.sh DIR";
            Finding::new("toolbox", Status::Warn, fault, advice)
        }
        Toolbox::Unmade(reason) => {
            let advice =
                "a kernel with overlayfs, --cap-add SYS_ADMIN, --security-opt apparmor=unconfined";
            Finding::new("toolbox", Status::Warn, reason, advice)
        }
    }
}

/// The running containers, as far as they can be judged without entering them.
pub(super) fn containers(config: &EnterConfig, facts: &Facts) -> Vec<Finding> {
    let bad = not_native(config);
    let all = facts.containers.as_slice();
    if all.is_empty() {
        let advice = "start one, and ask again";
        let found = "none is running: namespaces, cgroups and specifications were not looked at";
        return vec![Finding::new("containers", Status::Note, found, advice)];
    }
    if !all.iter().any(|one| one.is_visible) {
        let found = "the processes of containers are not in /proc";
        return vec![Finding::new("pid namespace", bad, found, "--pid=host")];
    }
    let mut findings = vec![Finding::ok("pid namespace", "that of the host")];
    findings.push(if all.iter().all(|one| one.is_cgroup_whole) {
        Finding::ok("cgroup namespace", "that of the host")
    } else {
        let found = "cgroups are named from another root than the host's";
        Finding::new("cgroup namespace", bad, found, "--cgroupns=host")
    });
    findings.extend(common_fault(
        "cgroups",
        all,
        bad,
        |one| one.cgroup_fault.as_deref(),
        "-v /sys/fs/cgroup:/host/cgroup",
        &format!("can be joined below {}", facts.cgroup_root.display()),
    ));
    findings.extend(common_fault(
        "specifications",
        all,
        bad,
        |one| one.bounding.as_ref().err().map(String::as_str),
        BUNDLES_ADVICE,
        "can be read",
    ));
    if !all.iter().any(|one| one.has_cgroup_kill) {
        findings.push(Finding::new(
            "cgroup.kill",
            Status::Note,
            "is not here: sessions are ended by the freezer, or process by process",
            "Linux 5.14 or newer, with the v2 hierarchy mounted (beside v1: at unified)",
        ));
    }
    for one in all {
        findings.extend(container(one, &facts.process, &facts.limits, bad));
    }
    let faulty = |one: &&Seen| {
        one.is_visible && one.is_cgroup_whole && one.cgroup_fault.is_none() && one.bounding.is_ok()
    };
    let good = all.iter().filter(faulty).count();
    let found = format!("{good} of {} that run can be reached natively", all.len());
    findings.push(if good == all.len() {
        Finding::ok("containers", found)
    } else {
        Finding::new("containers", bad, found, "see above")
    });
    findings
}

/// One finding where all have the same trouble, one for each container where only some have.
fn common_fault<'a>(
    name: &str,
    all: &'a [Seen],
    bad: Status,
    fault: impl Fn(&'a Seen) -> Option<&'a str>,
    advice: &str,
    good: &str,
) -> Vec<Finding> {
    let faults: Vec<_> = all.iter().filter_map(|one| Some((&one.name, fault(one)?))).collect();
    match faults.as_slice() {
        [] => vec![Finding::ok(name, good)],
        [(_, first), ..] if faults.len() == all.len() => {
            vec![Finding::new(name, bad, *first, advice)]
        }
        some => some
            .iter()
            .map(|(container, fault)| {
                Finding::new(
                    format!("container {container}"),
                    bad,
                    format!("{name}: {fault}"),
                    advice,
                )
            })
            .collect(),
    }
}

/// What only this container has.
fn container(one: &Seen, process: &Process, own: &[HardLimit], bad: Status) -> Vec<Finding> {
    let name = format!("container {}", one.name);
    let mut findings = Vec::new();
    if !one.is_visible {
        let found = "its first process is not where the engine says";
        findings.push(Finding::new(&name, bad, found, "ask again; it may have been restarted"));
    }
    let lacking = one.bounding.as_ref().map_or(0, |bounding| bounding & !process.capabilities);
    // What is always needed was told already.
    let lacking: Vec<_> = capability::names(lacking)
        .into_iter()
        .filter(|name| {
            !GIVEN.iter().chain(NEEDED.iter().map(|(needed, _)| needed)).any(|told| name == told)
        })
        .collect();
    if !lacking.is_empty() {
        let found = format!("it may have {}, which the gateway cannot give", lacking.join(", "));
        let flags: Vec<_> = lacking.iter().map(|name| format!("--cap-add {name}")).collect();
        findings.push(Finding::new(&name, bad, found, flags.join(" ")));
    }
    if !holds(process, SYS_RESOURCE) {
        let higher = one.limits.iter().filter_map(|limit| {
            let own = own.iter().find(|own| own.name == limit.name)?;
            (limit.value > own.value).then(|| format!("`{}`", limit.name))
        });
        let higher: Vec<_> = higher.collect();
        if !higher.is_empty() {
            let found =
                format!("its limits {} are higher than the gateway's own", higher.join(", "));
            let advice = "start the gateway without --ulimit, with that of the container, or --cap-add SYS_RESOURCE";
            findings.push(Finding::new(&name, bad, found, advice));
        }
    }
    findings
}
