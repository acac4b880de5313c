//! What the engine and the runtime say about a container, and what confinement follows.
//!
//! ```text
//! bundle    where the runtime keeps `config.json` of a running container
//! this      config.json → [`Specification`]: who and how its processes are, in our own terms
//! ```
//!
//! A container is described by its operator, but its image chooses the environment and the directory, so
//! every length here is bounded. What cannot be reproduced is an error, never left out.

pub mod bundle;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::capability;
use crate::wire::Opaque;
use crate::wire::task::{CapabilitySets, Confinement};

#[cfg(test)]
mod tests;

/// Largest `config.json` that is read, in bytes.
pub const SPECIFICATION_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Variables of one environment.
const VARIABLES_MAX: usize = 65_536;
/// All of an environment, in bytes: more does not fit through exec, and not through our own messages.
const ENVIRONMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Additional groups of one process (`NGROUPS_MAX` of setgroups(2)).
const GROUPS_MAX: usize = 65_536;
/// Longest path and longest security label, in bytes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// Resources of setrlimit(2), by their numbers on x86 and arm.
const RESOURCES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// What the runtime would give to a process that it executes in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// How it is confined. `seccomp` is always `None` here: see [`Specification::confinement`].
    confinement: Confinement,
    /// There is a seccomp filter.
    has_seccomp: bool,
    /// User of the container's own process.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its additional groups.
    pub groups: Vec<u32>,
    /// Its environment in order, `NAME=value`.
    pub environment: Vec<Opaque>,
    /// Where it started.
    pub directory: String,
}

/// Why a container cannot be entered the way its runtime would do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecificationError {
    /// It is not the document it must be.
    #[error("the runtime's config.json of the container is not understood: {0}")]
    Malformed(String),
    /// It asks for what we do not do.
    #[error("the container is confined in a way that cannot be reproduced: {0}")]
    NotReproducible(String),
    /// The kernel shows no filter although there must be one.
    #[error(
        "the container must have a seccomp filter, but the kernel shows none for its first process"
    )]
    NoFilter,
    /// The kernel's filter is no sequence of instructions.
    #[error(
        "the seccomp filter of the container has {0} bytes, which is no number of instructions"
    )]
    TornFilter(usize),
}

impl Specification {
    /// Reads a `config.json` (OCI runtime specification, config.md and config-linux.md).
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecificationError> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| SpecificationError::Malformed(error.to_string()))?;
        document.try_into()
    }

    /// Whether the filter of the container's first process must be read.
    #[must_use]
    pub fn needs_filter(&self) -> bool {
        self.has_seccomp
    }

    /// The confinement, with the filter as the kernel has it. `filter` is not looked at when none is needed:
    /// then it is the program's own, and not the runtime's.
    pub fn confinement(&self, filter: &[u8]) -> Result<Confinement, SpecificationError> {
        let mut confinement = self.confinement.clone();
        if self.has_seccomp {
            if filter.is_empty() {
                return Err(SpecificationError::NoFilter);
            }
            if !filter.len().is_multiple_of(FILTER_INSTRUCTION_BYTES) {
                return Err(SpecificationError::TornFilter(filter.len()));
            }
            confinement.seccomp = Some(Opaque(filter.to_vec()));
        }
        Ok(confinement)
    }

    /// All capabilities that a process of the container may ever have.
    #[must_use]
    pub fn bounding(&self) -> u64 {
        self.confinement.capabilities.bounding
    }
}

/// `sizeof (struct sock_filter)`.
const FILTER_INSTRUCTION_BYTES: usize = 8;

#[derive(Deserialize)]
struct Document {
    process: Process,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    user: ProcessUser,
    #[serde(default)]
    env: Vec<String>,
    cwd: String,
    capabilities: Option<Capabilities>,
    #[serde(default)]
    rlimits: Vec<Rlimit>,
    #[serde(default)]
    no_new_privileges: bool,
    oom_score_adj: Option<i32>,
    #[serde(default)]
    apparmor_profile: String,
    #[serde(default)]
    selinux_label: String,
    scheduler: Option<serde::de::IgnoredAny>,
    #[serde(rename = "ioPriority")]
    io_priority: Option<serde::de::IgnoredAny>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProcessUser {
    uid: u32,
    gid: u32,
    umask: Option<u32>,
    #[serde(default)]
    additional_gids: Vec<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Capabilities {
    bounding: Vec<String>,
    effective: Vec<String>,
    inheritable: Vec<String>,
    permitted: Vec<String>,
    ambient: Vec<String>,
}

#[derive(Deserialize)]
struct Rlimit {
    #[serde(rename = "type")]
    resource: String,
    hard: u64,
    soft: u64,
}

#[derive(Deserialize)]
struct Linux {
    seccomp: Option<Seccomp>,
    personality: Option<Personality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
}

#[derive(Deserialize)]
struct Personality {
    domain: String,
}

/// The umask of runtimes when nothing else is said.
const UMASK: u32 = 0o022;

impl TryFrom<Document> for Specification {
    type Error = SpecificationError;

    fn try_from(document: Document) -> Result<Self, Self::Error> {
        let Document { process, linux } = document;
        refuse_unknown(&process, linux.as_ref())?;
        let bound = |what: &str, found: usize, max: usize| {
            let reason =
                || SpecificationError::Malformed(format!("{what}: {found}, more than {max}"));
            if found > max { Err(reason()) } else { Ok(()) }
        };
        bound("environment variables", process.env.len(), VARIABLES_MAX)?;
        let bytes = process.env.iter().map(String::len).sum();
        bound("bytes of the environment", bytes, ENVIRONMENT_BYTES_MAX)?;
        bound("additional groups", process.user.additional_gids.len(), GROUPS_MAX)?;
        bound("bytes of the directory", process.cwd.len(), PATH_BYTES_MAX)?;
        bound("bytes of the AppArmor profile", process.apparmor_profile.len(), PATH_BYTES_MAX)?;
        bound("bytes of the SELinux label", process.selinux_label.len(), PATH_BYTES_MAX)?;
        let texts = process.env.iter().chain([
            &process.cwd,
            &process.apparmor_profile,
            &process.selinux_label,
        ]);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(SpecificationError::Malformed("a text with a zero byte".to_owned()));
        }
        if !process.cwd.starts_with('/') {
            return Err(SpecificationError::Malformed(
                "the directory is no absolute path".to_owned(),
            ));
        }
        let invalid = u32::MAX;
        let ids = process.user.additional_gids.iter().chain([&process.user.uid, &process.user.gid]);
        if ids.into_iter().any(|id| *id == invalid) {
            return Err(SpecificationError::Malformed(format!("{invalid} is no id")));
        }
        let capabilities = process.capabilities.unwrap_or_default();
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            confinement: Confinement {
                capabilities: CapabilitySets {
                    bounding: mask(&capabilities.bounding)?,
                    effective: mask(&capabilities.effective)?,
                    inheritable: mask(&capabilities.inheritable)?,
                    permitted: mask(&capabilities.permitted)?,
                    ambient: mask(&capabilities.ambient)?,
                },
                no_new_privileges: process.no_new_privileges,
                seccomp: None,
                rlimits: rlimits(&process.rlimits)?,
                oom_score_adj: process.oom_score_adj,
                umask: process.user.umask.unwrap_or(UMASK) & 0o777,
                apparmor: given(process.apparmor_profile),
                selinux: given(process.selinux_label),
            },
            has_seccomp: linux.is_some_and(|linux| linux.seccomp.is_some()),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids,
            environment: process.env.into_iter().map(|text| Opaque(text.into_bytes())).collect(),
            directory: process.cwd,
        })
    }
}

/// Everything that a runtime would do and we would not.
fn refuse_unknown(process: &Process, linux: Option<&Linux>) -> Result<(), SpecificationError> {
    let not = |what: String| Err(SpecificationError::NotReproducible(what));
    if process.scheduler.is_some() {
        return not("it has a scheduling policy".to_owned());
    }
    if process.io_priority.is_some() {
        return not("it has an I/O priority".to_owned());
    }
    if process.exec_cpu_affinity.is_some() {
        return not("it has a CPU affinity for exec".to_owned());
    }
    let Some(linux) = linux else { return Ok(()) };
    if let Some(personality) = &linux.personality
        && personality.domain != "LINUX"
    {
        return not(format!("it has the personality {}", shown(&personality.domain)));
    }
    let Some(seccomp) = &linux.seccomp else { return Ok(()) };
    if !seccomp.listener_path.is_empty() {
        return not("its seccomp filter asks another process".to_owned());
    }
    // TSYNC changes nothing for a process of one thread.
    match seccomp.flags.iter().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC") {
        Some(flag) => not(format!("its seccomp filter has the flag {}", shown(flag))),
        None => Ok(()),
    }
}

fn mask(names: &[String]) -> Result<u64, SpecificationError> {
    names.iter().try_fold(0, |mask, name| match capability::number(name) {
        Some(number) => Ok(mask | 1 << number),
        None => {
            let what = format!("the capability {} is not known", shown(name));
            Err(SpecificationError::NotReproducible(what))
        }
    })
}

fn rlimits(limits: &[Rlimit]) -> Result<Vec<(u32, u64, u64)>, SpecificationError> {
    let mut found = BTreeMap::new();
    for limit in limits {
        let short = limit.resource.strip_prefix("RLIMIT_").unwrap_or(&limit.resource);
        let number = RESOURCES.iter().position(|known| *known == short);
        let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
            let what = format!("the limit {} is not known", shown(&limit.resource));
            return Err(SpecificationError::NotReproducible(what));
        };
        // runc refuses it, too.
        if found.insert(number, (number, limit.soft, limit.hard)).is_some() {
            let what = format!("the limit {} is there twice", shown(&limit.resource));
            return Err(SpecificationError::Malformed(what));
        }
    }
    Ok(found.into_values().collect())
}

/// Characters of a foreign word that are shown.
const SHOWN_CHARS_MAX: usize = 64;

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
