//! Resource limits (setrlimit(2)): those of the container's specification, and for what it does not name those
//! of the container's first process. Ours must not leak.

use std::io;

use super::step::{OrFail as _, Step, failure};
use super::sys;
use crate::wire::task::FailureKind;

/// Soft and hard limit of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_…` number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Names in `/proc/PID/limits`, by number (asm-generic/resource.h).
const NAMES: [&str; 16] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];

/// The limits in a `/proc/PID/limits`.
#[must_use]
pub fn parse(text: &str) -> Vec<Limit> {
    let mut found = Vec::new();
    for line in text.lines() {
        for (resource, name) in (0_u32..).zip(NAMES) {
            let Some(values) = line.strip_prefix(name).filter(|rest| rest.starts_with(' ')) else {
                continue;
            };
            let mut values = values.split_ascii_whitespace().map(value);
            if let (Some(Some(soft)), Some(Some(hard))) = (values.next(), values.next()) {
                found.push(Limit { resource, soft, hard });
            }
        }
    }
    found
}

fn value(text: &str) -> Option<u64> {
    if text == "unlimited" { Some(libc::RLIM_INFINITY) } else { text.parse().ok() }
}

/// The specification's limits, and the first process's for all others.
pub fn plan(specification: &[(u32, u64, u64)], first: &[Limit]) -> Step<Vec<Limit>> {
    let mut limits = Vec::with_capacity(NAMES.len());
    for (resource, name) in (0_u32..).zip(NAMES) {
        let named = specification.iter().find(|(number, ..)| *number == resource);
        let limit = match named {
            Some(&(_, soft, hard)) => Some(Limit { resource, soft, hard }),
            None => first.iter().find(|limit| limit.resource == resource).copied(),
        };
        limits.extend(limit);
        if limit.is_none() {
            let reason = format!("`{name}` of the container's first process is not known");
            return Err(failure(FailureKind::Confinement, reason));
        }
    }
    Ok(limits)
}

/// Raises hard limits where they are too low: only possible before a user namespace is joined.
pub fn raise(limits: &[Limit]) -> Step<()> {
    for limit in limits {
        let (soft, hard) = sys::limit(limit.resource).or_fail(FailureKind::Other, "getrlimit")?;
        if limit.hard > hard {
            set(Limit { soft, ..*limit }).map_err(|error| {
                let reason = format!(
                    "raising the limit `{}` to {}: {error}; the gateway needs --cap-add SYS_RESOURCE \
                     or the same --ulimit",
                    name(limit.resource),
                    limit.hard
                );
                failure(FailureKind::NotNative, reason)
            })?;
        }
    }
    Ok(())
}

/// Takes on these limits, none of which is above the hard limit of now.
pub fn apply(limits: &[Limit]) -> Step<()> {
    for limit in limits {
        set(*limit).or_fail(
            FailureKind::Confinement,
            format_args!("setting the limit `{}`", name(limit.resource)),
        )?;
    }
    Ok(())
}

fn set(limit: Limit) -> io::Result<()> {
    sys::set_limit(limit.resource, limit.soft, limit.hard)
}

fn name(resource: u32) -> &'static str {
    usize::try_from(resource).ok().and_then(|number| NAMES.get(number)).copied().unwrap_or("?")
}

#[cfg(test)]
mod tests;
