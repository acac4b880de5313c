//! What is found out: about this process, the machine, and every running container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chores_common::engine::Container;
use chores_common::exit::chain;
use rustix::fs::OFlags;

use crate::config::EnterConfig;
use crate::container::Specification;
use crate::container::bundle::Bundles;
use crate::login::shown;
use crate::{enter, toolbox};

/// Files of the kernel are not read further, in bytes.
const KERNEL_FILE_BYTES_MAX: u64 = 256 * 1024;

/// CGROUP2_SUPER_MAGIC of statfs(2).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// This process, as `/proc/self/status` has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Process {
    /// Effective user.
    pub(super) uid: Option<u32>,
    /// Effective capabilities; bit N is number N.
    pub(super) capabilities: u64,
    /// 0 without a filter, 2 with one.
    pub(super) seccomp: Option<u8>,
    /// Nothing that is executed gains privileges.
    pub(super) no_new_privileges: Option<bool>,
}

impl Process {
    /// From the lines of proc_pid_status(5).
    pub(super) fn parse(status: &str) -> Self {
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        Self {
            uid: value("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
            capabilities: value("CapEff")
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .unwrap_or_default(),
            seccomp: value("Seccomp").and_then(|mode| mode.parse().ok()),
            no_new_privileges: value("NoNewPrivs").map(|value| value != "0"),
        }
    }
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Machine {
    /// `6.18.1`.
    pub(super) release: String,
    /// System calls that are missing.
    pub(super) missing_calls: Vec<&'static str>,
    /// The kernel can show a seccomp filter (CONFIG_CHECKPOINT_RESTORE).
    pub(super) shows_filters: bool,
    /// `/proc/self/uid_map` maps nothing: we are in the user namespace of the host.
    pub(super) is_user_namespace_whole: bool,
    /// The label that an LSM gives this process.
    pub(super) label: Option<String>,
    /// `kernel.yama.ptrace_scope`.
    pub(super) ptrace_scope: Option<u32>,
    /// `vm.memfd_noexec`.
    pub(super) memfd_noexec: Option<u32>,
}

/// A hard limit (setrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HardLimit {
    /// `Max open files`.
    pub(super) name: String,
    /// `u64::MAX` without a limit.
    pub(super) value: u64,
}

/// A running container as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its name.
    pub(super) name: String,
    /// Its first process is where the engine says, in our `/proc`.
    pub(super) is_visible: bool,
    /// Its cgroups are named from the root of the host.
    pub(super) is_cgroup_whole: bool,
    /// What is wrong with its cgroup directories.
    pub(super) cgroup_fault: Option<String>,
    /// A session can be killed as a whole by the kernel.
    pub(super) has_cgroup_kill: bool,
    /// Its bounding set, or why its specification cannot be read.
    pub(super) bounding: Result<u64, String>,
    /// Hard limits of its first process.
    pub(super) limits: Vec<HardLimit>,
}

/// The programs for images without any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Toolbox {
    /// None is named.
    #[default]
    Absent,
    /// It may not be used, and why.
    Faulty(String),
    /// It cannot be mounted, and why.
    Unmade(String),
    /// The names of its directories.
    Ready(Vec<String>),
}

impl Toolbox {
    fn look(directory: Option<&Path>) -> Self {
        let Some(directory) = directory else { return Self::Absent };
        let names = match toolbox::check(directory) {
            Ok(names) => names,
            Err(error) => return Self::Faulty(chain(&error)),
        };
        match enter::toolbox::make(&directory.to_string_lossy(), true) {
            Ok(_) => Self::Ready(names),
            Err(reason) => Self::Unmade(reason),
        }
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) process: Process,
    pub(super) machine: Machine,
    /// Our own hard limits.
    pub(super) limits: Vec<HardLimit>,
    /// Where the host's cgroups should be.
    pub(super) cgroup_root: PathBuf,
    pub(super) toolbox: Toolbox,
    pub(super) containers: Vec<Seen>,
}

impl Facts {
    /// Looks.
    pub(super) fn read(
        config: &EnterConfig,
        containers: &[Container],
        bundles: Option<&Bundles>,
    ) -> Self {
        let cgroup_root = config.cgroup_root();
        let see = |container: &Container| seen(container, bundles, &cgroup_root);
        Self {
            process: Process::parse(&text("/proc/self/status").unwrap_or_default()),
            machine: machine(),
            limits: hard_limits(&text("/proc/self/limits").unwrap_or_default()),
            containers: containers.iter().map(see).collect(),
            toolbox: Toolbox::look(config.toolbox.as_deref()),
            cgroup_root: cgroup_root.clone(),
        }
    }
}

fn machine() -> Machine {
    let number = |path: &str| text(path).and_then(|text| text.trim().parse().ok());
    let uid_map = text("/proc/self/uid_map").unwrap_or_default();
    Machine {
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        missing_calls: missing_calls(),
        // Shown by exactly the kernels that can read filters: both need CONFIG_CHECKPOINT_RESTORE.
        shows_filters: Path::new("/proc/self/timers").exists(),
        is_user_namespace_whole: uid_map.split_whitespace().eq(["0", "0", "4294967295"]),
        label: text("/proc/self/attr/current")
            .map(|label| label.trim_end_matches(['\0', '\n']).to_owned())
            .filter(|label| !label.is_empty()),
        ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
        memfd_noexec: number("/proc/sys/vm/memfd_noexec"),
    }
}

fn missing_calls() -> Vec<&'static str> {
    use rustix::fs::{CWD, Mode, ResolveFlags, openat2};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    let mut missing = Vec::new();
    if pidfd_open(getpid(), PidfdFlags::empty()).is_err() {
        missing.push("pidfd_open");
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).is_err() {
        missing.push("openat2");
    }
    missing
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(KERNEL_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// From the lines of proc_pid_limits(5): a name of up to 26 characters, the soft limit, the hard limit, a unit.
pub(super) fn hard_limits(text: &str) -> Vec<HardLimit> {
    let limits = text.lines().skip(1).filter_map(|line| {
        let (name, rest) = line.split_at_checked(26)?;
        let value = match rest.split_whitespace().nth(1)? {
            "unlimited" => u64::MAX,
            number => number.parse().ok()?,
        };
        Some(HardLimit { name: name.trim().to_owned(), value })
    });
    limits.collect()
}

fn seen(container: &Container, bundles: Option<&Bundles>, cgroup_root: &Path) -> Seen {
    let pid = container.pid.unwrap_or_default();
    let cgroup = text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let bounding = bundles.map_or_else(
        || Err("the engine does not answer".to_owned()),
        |bundles| {
            let bytes = bundles.read(&container.id).map_err(|error| chain(&error))?;
            let specification = Specification::parse(&bytes).map_err(|error| error.to_string())?;
            Ok(specification.bounding())
        },
    );
    let groups = memberships(&cgroup);
    let opened = open_groups(cgroup_root, &groups);
    Seen {
        name: shown(&container.name),
        is_visible: names_container(&cgroup, &container.id),
        is_cgroup_whole: groups.iter().all(|(_, path)| !path.split('/').any(|part| part == "..")),
        has_cgroup_kill: opened.as_ref().is_ok_and(|has_kill| *has_kill),
        cgroup_fault: opened.err(),
        bounding,
        limits: hard_limits(&text(format!("/proc/{pid}/limits")).unwrap_or_default()),
    }
}

/// Whether a line of proc_pid_cgroup(5) has this id in its path.
pub(super) fn names_container(cgroup: &str, id: &str) -> bool {
    memberships(cgroup).iter().any(|(_, path)| {
        path.split(|character: char| !character.is_ascii_hexdigit()).any(|part| part == id)
    })
}

/// Controllers and path of every line.
fn memberships(cgroup: &str) -> Vec<(&str, &str)> {
    let lines = cgroup.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    lines.collect()
}

/// Opens what a session joins, as a session does; whether the kernel can kill a group as a whole.
fn open_groups(root: &Path, groups: &[(&str, &str)]) -> Result<bool, String> {
    let is_v2 = rustix::fs::statfs(root)
        .map_err(|error| format!("{}: {}", root.display(), io::Error::from(error)))
        .map(|found| found.f_type == CGROUP2_MAGIC)?;
    let mut has_kill = false;
    for (controllers, path) in groups {
        let names = match (*controllers, controllers.strip_prefix("name=")) {
            ("", _) if is_v2 => vec![""],
            ("", _) => vec!["unified"],
            (_, Some(name)) => vec![name],
            (names, None) => std::iter::once(names).chain(names.split(',')).collect(),
        };
        let hierarchy = names.iter().map(|name| root.join(name)).find(|path| path.is_dir());
        let Some(hierarchy) = hierarchy else {
            // Without it, nothing can be anywhere but at its root.
            if *path == "/" {
                continue;
            }
            return Err(format!("{} has no hierarchy {}", root.display(), names.join(" or ")));
        };
        let group = hierarchy.join(path.trim_start_matches('/'));
        let entrance = group.join("cgroup.procs");
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&entrance)
            .map_err(|error| format!("{}: {error}", entrance.display()))?;
        has_kill |=
            controllers.is_empty() && fs::exists(group.join("cgroup.kill")).unwrap_or(false);
    }
    Ok(has_kill)
}
