//! Control groups: where a container's processes are, how to join them, and a group of our own for each session
//! (cgroups(7); kernel documentation cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst).

use std::io;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::step::{OrFail as _, Step, failure, kernel_file, write_kernel_file, write_whole};
use super::sys;
use crate::wire::task::{Failure, FailureKind};

/// CGROUP_SUPER_MAGIC (statfs(2)).
const V1_MAGIC: u64 = 0x0027_e0eb;
/// CGROUP2_SUPER_MAGIC.
const V2_MAGIC: u64 = 0x6367_7270;
/// Where the v2 hierarchy is when there are v1 hierarchies beside it.
const UNIFIED: &str = "unified";
/// More hierarchies than any kernel has controllers.
const HIERARCHIES_MAX: usize = 64;
/// A name of a session's group is not longer. In bytes.
const NAME_BYTES_MAX: usize = 64;
/// Every session's group is named like this.
const NAME_PREFIX: &str = "ssh-";
/// Between two looks at a group that is to become empty.
const LOOK: Duration = Duration::from_millis(2);

/// One line of `/proc/PID/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Controllers, or `name=…`; empty for the v2 hierarchy.
    pub controllers: String,
    /// Path in the hierarchy, with a slash before it.
    pub path: String,
}

/// The lines of a `/proc/PID/cgroup`.
pub fn memberships(text: &str) -> Step<Vec<Membership>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(failure(
                FailureKind::NotNative,
                "the gateway sees cgroups relative to its own: start it with --cgroupns=host",
            ));
        }
        found.push(Membership { controllers: controllers.to_owned(), path: path.to_owned() });
    }
    if found.is_empty() || found.len() > HIERARCHIES_MAX {
        return Err(failure(FailureKind::NotNative, "/proc/PID/cgroup is not understood"));
    }
    Ok(found)
}

/// Names a v1 hierarchy's directory may have.
#[must_use]
pub fn directory_names(controllers: &str) -> Vec<String> {
    match controllers.strip_prefix("name=") {
        Some(name) => vec![name.to_owned()],
        // `cpu,cpuacct` may be mounted as `cpuacct,cpu`; each alone is a link to it.
        None => {
            let mut names = vec![controllers.to_owned()];
            names.extend(controllers.split(',').map(str::to_owned));
            names.dedup();
            names
        }
    }
}

/// A container's groups, opened.
#[derive(Debug)]
pub struct Groups {
    opened: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    controllers: String,
    directory: OwnedFd,
}

impl Groups {
    /// Opens all groups of a process. `root` is where the host's hierarchies are in our mount namespace.
    pub fn open(root: &str, memberships: &[Membership]) -> Step<Self> {
        let what = |error: &dyn std::fmt::Display| {
            let reason = format!(
                "cgroup hierarchies of the host at {root}: {error}; mount them: \
                 -v /sys/fs/cgroup:{root}"
            );
            failure(FailureKind::NotNative, reason)
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| what(&error))?;
        let is_v2_only = magic(&root).map_err(|error| what(&error))? == V2_MAGIC;
        let mut opened = Vec::new();
        for membership in memberships {
            let hierarchy = hierarchy(&root, is_v2_only, &membership.controllers)
                .map_err(|error| what(&error))?;
            let Some(hierarchy) = hierarchy else {
                // Nothing that is not mounted can hold a process anywhere but at its root.
                if membership.path == "/" {
                    continue;
                }
                return Err(what(&format_args!("none for `{}`", membership.controllers)));
            };
            let directory = match membership.path.trim_start_matches('/') {
                "" => hierarchy,
                path => open_below(&hierarchy, path).or_errno(
                    FailureKind::TargetGone,
                    format_args!("cgroup {} of the container", membership.path),
                )?,
            };
            opened.push(Group { controllers: membership.controllers.clone(), directory });
        }
        if opened.is_empty() {
            return Err(what(&"none is there"));
        }
        Ok(Self { opened })
    }

    /// Fails when the container is frozen, since a process that joins would be frozen with it.
    pub fn check_not_frozen(&self) -> Step<()> {
        for group in &self.opened {
            let is_frozen = match group.controllers.as_str() {
                "" => kernel_file(&group.directory, "cgroup.events")
                    .is_ok_and(|text| text.lines().any(|line| line == "frozen 1")),
                names if names.split(',').any(|name| name == "freezer") => {
                    kernel_file(&group.directory, "freezer.state")
                        .is_ok_and(|text| text.trim() != "THAWED")
                }
                _ => false,
            };
            if is_frozen {
                return Err(failure(FailureKind::TargetPaused, "the container is paused"));
            }
        }
        Ok(())
    }

    /// Opens what a process must write to in order to join.
    pub fn entrances(&self) -> Step<Vec<OwnedFd>> {
        self.opened
            .iter()
            .map(|group| {
                open_entrance(&group.directory).or_errno(
                    FailureKind::NotNative,
                    format_args!("cgroup.procs of the container ({})", group.controllers),
                )
            })
            .collect()
    }

    /// Makes a session's own group below the container's.
    pub fn make_session(&self, name: &str) -> Step<SessionGroup> {
        if !is_session_name(name) {
            return Err(failure(FailureKind::Other, "a session's cgroup cannot be named so"));
        }
        let unified = self.opened.iter().find(|group| group.controllers.is_empty());
        let freezer = self
            .opened
            .iter()
            .find(|group| group.controllers.split(',').any(|name| name == "freezer"));
        let mut refused = None;
        for (group, way) in unified
            .map(|group| (group, Way::V2))
            .into_iter()
            .chain(freezer.map(|group| (group, Way::V1)))
        {
            match SessionGroup::make(&group.directory, name, way) {
                Ok(session) => return Ok(session),
                Err(error) => refused = Some(error),
            }
        }
        let kind = refused.as_ref().and_then(super::step::kind_of);
        let reason = match refused {
            Some(error) => format!("a cgroup for the session: {error}"),
            None => "no cgroup hierarchy can hold a session: neither v2 nor freezer".to_owned(),
        };
        Err(failure(kind.unwrap_or(FailureKind::NotNative), reason))
    }
}

/// Joins all of these with the calling process.
pub fn join(entrances: &[OwnedFd]) -> Step<()> {
    for entrance in entrances {
        write_whole(entrance, "0").map_err(|error| joining(&error))?;
    }
    Ok(())
}

/// What it means that a process cannot join a group.
fn joining(error: &io::Error) -> Failure {
    let kind = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => FailureKind::TargetGone,
        Some(Errno::PERM | Errno::ACCESS | Errno::ROFS) => FailureKind::NotNative,
        _ => super::step::kind_of(error).unwrap_or(FailureKind::Confinement),
    };
    failure(kind, format!("joining a cgroup of the container: {error}"))
}

/// How a group is frozen and killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `cgroup.kill` (Linux 5.14), or `cgroup.freeze` and one by one.
    V2,
    /// `freezer.state` and one by one.
    V1,
}

/// A session's own group.
#[derive(Debug)]
pub struct SessionGroup {
    parent: OwnedFd,
    directory: OwnedFd,
    name: String,
    way: Way,
    entrance: OwnedFd,
    /// Out of it, into the container's.
    exit: OwnedFd,
    kill: Option<OwnedFd>,
}

impl SessionGroup {
    fn make(parent: &OwnedFd, name: &str, way: Way) -> io::Result<Self> {
        let parent = parent.try_clone()?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        let opened = open_below(&parent, name).and_then(|directory| {
            let entrance = open_entrance(&directory)?;
            let exit = open_entrance(&parent)?;
            let kill = open_for_writing(&directory, "cgroup.kill").ok();
            Ok((directory, entrance, exit, kill))
        });
        match opened {
            Ok((directory, entrance, exit, kill)) => {
                Ok(Self { parent, directory, name: name.to_owned(), way, entrance, exit, kill })
            }
            Err(error) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).ok();
                Err(error)
            }
        }
    }

    /// Moves the calling process into the group.
    pub fn join(&self) -> Step<()> {
        join(std::slice::from_ref(&self.entrance))
    }

    /// Moves a child of the calling process out of the group, into the container's. Its number is its own as long
    /// as it is not collected.
    pub fn release(&self, child: Pid) -> Step<()> {
        write_whole(&self.exit, &child.as_raw_nonzero().to_string())
            .map_err(|error| joining(&error))
    }

    /// Kills every process of the group once.
    pub fn kill(&self) -> io::Result<()> {
        if let Some(kill) = &self.kill {
            return write_whole(kill, "1");
        }
        // Processes that are just being born would be missed: so none is born meanwhile.
        let frozen = self.freeze(true);
        let killed = self.kill_each();
        self.freeze(false)?;
        frozen.and(killed)
    }

    fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        match (self.way, is_frozen) {
            (Way::V1, true) => write_kernel_file(&self.directory, "freezer.state", "FROZEN"),
            (Way::V1, false) => write_kernel_file(&self.directory, "freezer.state", "THAWED"),
            (Way::V2, true) => write_kernel_file(&self.directory, "cgroup.freeze", "1"),
            (Way::V2, false) => write_kernel_file(&self.directory, "cgroup.freeze", "0"),
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        for line in kernel_file(&self.directory, "cgroup.procs")?.lines() {
            let Some(pid) = line.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
                continue;
            };
            // One that has ended meanwhile needs no signal.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
                sys::send_signal(&process, libc::SIGKILL, false).ok();
            }
        }
        Ok(())
    }

    /// Whether no process is left in the group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match kernel_file(&self.directory, "cgroup.procs") {
            Ok(text) => text.trim().is_empty(),
            // A runtime that removed the whole container has removed this group too.
            Err(error) => matches!(Errno::from_io_error(&error), Some(Errno::NODEV | Errno::NOENT)),
        }
    }

    /// Kills the group until it is empty, and removes it.
    pub fn end(&self, deadline: Instant) -> Step<()> {
        loop {
            let removed =
                rustix::fs::unlinkat(&self.parent, self.name.as_str(), AtFlags::REMOVEDIR);
            match removed {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(_) if Instant::now() < deadline => {
                    if !self.is_empty() {
                        self.kill().ok();
                    }
                    sleep(LOOK);
                }
                Err(error) => {
                    let reason = format!("cgroup {} of the session is left: {error}", self.name);
                    return Err(failure(FailureKind::TimedOut, reason));
                }
            }
        }
    }
}

fn is_session_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.strip_prefix(NAME_PREFIX).is_some_and(|rest| !rest.is_empty())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The directory of a hierarchy; `None` when it is not mounted.
fn hierarchy(root: &OwnedFd, is_v2_only: bool, controllers: &str) -> io::Result<Option<OwnedFd>> {
    if controllers.is_empty() && is_v2_only {
        return root.try_clone().map(Some);
    }
    let (names, expected) = match controllers {
        "" => (vec![UNIFIED.to_owned()], V2_MAGIC),
        names => (directory_names(names), V1_MAGIC),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for name in names {
        match rustix::fs::openat(root, name.as_str(), flags, Mode::empty()) {
            Ok(directory) if magic(&directory)? == expected => return Ok(Some(directory)),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn magic(directory: &OwnedFd) -> io::Result<u64> {
    u64::try_from(rustix::fs::fstatfs(directory)?.f_type).map_err(io::Error::other)
}

/// A directory below another, reached without links and without leaving it.
fn open_below(directory: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?)
}

fn open_entrance(directory: &OwnedFd) -> io::Result<OwnedFd> {
    open_for_writing(directory, "cgroup.procs")
}

fn open_for_writing(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests;
