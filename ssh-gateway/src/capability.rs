//! Capabilities by number and by name (capabilities(7)).

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// Names by number, without `CAP_` (linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of `CAP_SYS_PTRACE`.
pub const SYS_PTRACE: u32 = 19;

/// The number of a capability, by its name with or without `CAP_`.
#[must_use]
pub fn number(name: &str) -> Option<usize> {
    let short = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == short)
}

/// The capabilities in a mask, for people. Those that are newer than this program have their numbers.
#[must_use]
pub fn names(mask: u64) -> Vec<Cow<'static, str>> {
    let name = |bit: usize| {
        let unknown = || Cow::Owned(format!("capability {bit}"));
        NAMES.get(bit).map_or_else(unknown, |name| Cow::Borrowed(*name))
    };
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

/// The same in one line.
#[must_use]
pub fn list(mask: u64) -> String {
    names(mask).join(", ")
}
