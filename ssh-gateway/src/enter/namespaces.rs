//! Namespaces (namespaces(7)): which of them a container has of its own, and joining them.

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::step::{Step, failure, kind_of};
use crate::wire::task::{Failure, FailureKind};

/// All kinds of namespaces as they are named in `/proc/PID/ns`.
const KINDS: [(&str, ThreadNameSpaceType); 8] = [
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("net", ThreadNameSpaceType::NETWORK),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("time", ThreadNameSpaceType::TIME),
    ("user", ThreadNameSpaceType::USER),
];

/// The namespaces of one process: kind and the kernel's text for it, `mnt:[4026531840]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces(Vec<(&'static str, String)>);

impl Namespaces {
    /// Of the process with this directory in `/proc`.
    pub fn of(process: &OwnedFd) -> Step<Self> {
        Self::read(process, "")
    }

    /// Of the calling process.
    pub fn of_ourselves(proc: &OwnedFd) -> Step<Self> {
        Self::read(proc, "self/")
    }

    fn read(directory: &OwnedFd, prefix: &str) -> Step<Self> {
        let mut found = Vec::new();
        for (kind, _) in KINDS {
            match rustix::fs::readlinkat(directory, format!("{prefix}ns/{kind}"), Vec::new()) {
                Ok(text) => found.push((kind, text.to_string_lossy().into_owned())),
                // A kernel without this kind; it then is missing for all processes.
                Err(Errno::NOENT) if kind == "time" || kind == "cgroup" || kind == "user" => {}
                Err(Errno::NOENT) => {
                    return Err(failure(FailureKind::TargetGone, "the container's process ended"));
                }
                Err(error) => return Err(refused(error, "reading the container's namespaces")),
            }
        }
        Ok(Self(found))
    }

    /// These, as the kernel would tell them.
    #[cfg(test)]
    pub(super) fn of_texts(texts: &[(&'static str, &str)]) -> Self {
        Self(texts.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect())
    }

    /// The kinds in which these differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> ThreadNameSpaceType {
        KINDS
            .into_iter()
            .filter(|(kind, _)| self.get(kind) != other.get(kind))
            .fold(ThreadNameSpaceType::empty(), |mask, (_, flag)| mask | flag)
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(kind, _)| *kind == wanted).map(|(_, text)| text.as_str())
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (_, text)) in self.0.iter().enumerate() {
            let space = if place > 0 { " " } else { "" };
            write!(formatter, "{space}{text}")?;
        }
        Ok(())
    }
}

/// Joins these namespaces of a process in one step.
pub fn join(pidfd: &OwnedFd, kinds: ThreadNameSpaceType) -> Step<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(pidfd), kinds)
        .map_err(|error| refused(error, "joining the container's namespaces"))
}

/// Becomes root of a user namespace that was joined.
pub fn become_root() -> Step<()> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|error| refused(error, "becoming root of the container's user namespace"))
}

fn refused(error: Errno, what: &str) -> Failure {
    let kind = match error {
        Errno::PERM | Errno::ACCESS => {
            let reason = format!(
                "{what}: {error}; the gateway needs --cap-add SYS_ADMIN, SYS_CHROOT and SYS_PTRACE"
            );
            return failure(FailureKind::NotNative, reason);
        }
        other => kind_of(&other.into()).unwrap_or(FailureKind::NotNative),
    };
    failure(kind, format!("{what}: {error}"))
}
