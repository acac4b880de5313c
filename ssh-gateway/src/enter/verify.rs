//! The proof from outside that a process is confined as it must be (proc(5)).

use std::os::fd::OwnedFd;

use rustix::thread::ThreadNameSpaceType;

use super::namespaces::Namespaces;
use super::step::{Identity, OrFail as _, Step, failure, kernel_file};
use crate::capability::list;
use crate::wire::task::{CapabilitySets, FailureKind};

/// What must be true of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its user, in the user namespace of whoever looks.
    pub identity: Identity,
    /// Its capabilities.
    pub capabilities: CapabilitySets,
    /// Whether it can gain no privileges.
    pub no_new_privileges: bool,
    /// How many seccomp filters it has.
    pub filters: u32,
}

/// What `/proc/PID/status` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Status {
    uids: Vec<u32>,
    gids: Vec<u32>,
    groups: Vec<u32>,
    capabilities: CapabilitySets,
    no_new_privileges: Option<bool>,
    seccomp: Option<u32>,
    filters: Option<u32>,
}

impl Status {
    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let mask = || u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
            match name {
                "Uid" => status.uids = numbers(value),
                "Gid" => status.gids = numbers(value),
                "Groups" => status.groups = numbers(value),
                "CapInh" => status.capabilities.inheritable = mask(),
                "CapPrm" => status.capabilities.permitted = mask(),
                "CapEff" => status.capabilities.effective = mask(),
                "CapBnd" => status.capabilities.bounding = mask(),
                "CapAmb" => status.capabilities.ambient = mask(),
                "NoNewPrivs" => status.no_new_privileges = value.parse::<u8>().ok().map(|n| n != 0),
                "Seccomp" => status.seccomp = value.parse().ok(),
                "Seccomp_filters" => status.filters = value.parse().ok(),
                _ => {}
            }
        }
        status
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect()
}

/// What is not as it must be, in words.
fn mismatches(status: &Status, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, found: String, wanted: String| {
        if found != wanted {
            wrong.push(format!("{what} is {found} and not {wanted}"));
        }
    };
    let sorted = |groups: &[u32]| {
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        format!("{groups:?}")
    };
    compare("Uid", format!("{:?}", status.uids), format!("{:?}", [expected.identity.uid; 4]));
    compare("Gid", format!("{:?}", status.gids), format!("{:?}", [expected.identity.gid; 4]));
    compare("Groups", sorted(&status.groups), sorted(&expected.identity.groups));
    let (found, wanted) = (&status.capabilities, &expected.capabilities);
    for (what, found, wanted) in [
        ("CapInh", found.inheritable, wanted.inheritable),
        ("CapPrm", found.permitted, wanted.permitted),
        ("CapEff", found.effective, wanted.effective),
        ("CapBnd", found.bounding, wanted.bounding),
        ("CapAmb", found.ambient, wanted.ambient),
    ] {
        compare(what, format!("({})", list(found)), format!("({})", list(wanted)));
    }
    let no_new = format!("{:?}", Some(expected.no_new_privileges));
    compare("NoNewPrivs", format!("{:?}", status.no_new_privileges), no_new);
    let mode = if expected.filters > 0 { 2 } else { 0 };
    compare("Seccomp", format!("{:?}", status.seccomp), format!("{:?}", Some(mode)));
    // Kernels before 5.9 do not say how many there are.
    if let Some(filters) = status.filters {
        compare("Seccomp_filters", filters.to_string(), expected.filters.to_string());
    }
    wrong
}

/// Where a process must be.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The namespaces of the container.
    pub container: &'a Namespaces,
    /// Where it has mounts of its own, a toolbox: those of the gateway, whose mounts it must not have.
    pub apart_from: Option<&'a Namespaces>,
}

impl Places<'_> {
    /// Whether these namespaces are right.
    fn are(&self, found: &Namespaces) -> bool {
        const MOUNTS: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT;
        let others = found.differing(self.container);
        match self.apart_from {
            None => others.is_empty() && found == self.container,
            Some(gateway) => others == MOUNTS && found.differing(gateway).contains(MOUNTS),
        }
    }
}

/// Fails when a process is not what it must be, or not where.
pub fn check(process: &OwnedFd, expected: &Expected, places: Places<'_>) -> Step<()> {
    let status =
        kernel_file(process, "status").or_errno(FailureKind::Other, "proof of confinement")?;
    let mut wrong = mismatches(&Status::parse(&status), expected);
    let found = Namespaces::of(process)?;
    if !places.are(&found) {
        let apart = if places.apart_from.is_some() { " with mounts of its own" } else { "" };
        wrong.push(format!("its namespaces are {found} and not {}{apart}", places.container));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let reason = format!("the program was not confined as it must be: {}", wrong.join("; "));
    Err(failure(FailureKind::Confinement, reason))
}

/// The numbers of a user outside its user namespace, by that namespace's maps (user_namespaces(7)).
pub fn outside(identity: &Identity, process: &OwnedFd) -> Step<Identity> {
    let map =
        |name| kernel_file(process, name).or_errno(FailureKind::Other, "id maps of the container");
    let (users, groups) = (map("uid_map")?, map("gid_map")?);
    let mapped = || {
        Some(Identity {
            uid: through(&users, identity.uid)?,
            gid: through(&groups, identity.gid)?,
            groups: identity
                .groups
                .iter()
                .map(|gid| through(&groups, *gid))
                .collect::<Option<_>>()?,
        })
    };
    mapped().ok_or_else(|| {
        failure(
            FailureKind::User,
            "the user or a group of it is not in the container's user namespace",
        )
    })
}

fn through(map: &str, id: u32) -> Option<u32> {
    map.lines().map(numbers).find_map(|line| {
        let &[inside, outside, count] = line.as_slice() else { return None };
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests;
