//! How the writers of a file have opened it, as far as `/proc` shows them.
//!
//! Only in the first namespace of process ids, as root with the right to look into every process (`CAP_SYS_PTRACE`), all
//! of them are seen: without it, `hidepid` may hide some without a word. Each thread is looked at, since threads may have
//! descriptors of their own.
//! Writable mappings are not looked for: a log that is written through one is none that a file system could cut.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Stat, stat};

use super::decide::Appends;

#[cfg(test)]
mod tests;

/// `O_APPEND` (02000) and `O_ACCMODE`, as `/proc/PID/fdinfo` shows them in octal (proc(5)).
const APPEND: u32 = 0o2000;
const ACCESS: u32 = 0o3;

/// The first namespace of process ids: `PROC_PID_INIT_INO` of Linux (include/uapi/linux/nsfs.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// `CAP_SYS_PTRACE` (include/uapi/linux/capability.h), as a bit of `CapEff`.
const PTRACE: u64 = 1 << 19;

/// Processes, and threads, that are looked at, at the most.
const PROCESSES_MAX: usize = 1 << 16;
const THREADS_MAX: usize = 1 << 17;

/// One part in so many of the time goes into looks, at the most: each goes through every descriptor of the host.
const TIME_SHARE: u32 = 20;

/// When the next look may be.
#[derive(Debug, Default)]
pub struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// Whether it may be now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// A look that took so long has just ended.
    pub fn took(&mut self, time: Duration, now: Instant) {
        self.next = now.checked_add(time.saturating_mul(TIME_SHARE - 1));
    }
}

/// How all writers of a file write. `proc` is `/proc`.
#[must_use]
pub fn look(file: &impl std::os::fd::AsFd, proc: &Path) -> Appends {
    let Ok(wanted) = rustix::fs::fstat(file) else { return Appends::Unknown };
    let is_first = fs::read_link(proc.join("self/ns/pid"))
        .is_ok_and(|name| name == Path::new(FIRST_NAMESPACE));
    let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let is_complete = is_first && sees_all(&status);
    let mut seen = Seen { is_complete, ..Seen::default() };
    let Ok(processes) = fs::read_dir(proc) else { return Appends::Unknown };
    for (count, process) in processes.flatten().enumerate() {
        if count >= PROCESSES_MAX {
            seen.is_complete = false;
            break;
        }
        let name = process.file_name();
        let is_process = name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if is_process {
            seen.process(&process.path(), &wanted);
        }
    }
    seen.verdict()
}

/// Whether a process of this `/proc/PID/status` may look into every other one.
fn sees_all(status: &str) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    // Real, effective, saved, file system.
    let is_root = field("Uid").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
    let rights = field("CapEff").and_then(|rights| u64::from_str_radix(rights, 16).ok());
    is_root && rights.is_some_and(|rights| rights & PTRACE != 0)
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    appending: u32,
    others: u32,
    is_complete: bool,
    threads: usize,
}

impl Seen {
    fn process(&mut self, process: &Path, wanted: &Stat) {
        match fs::read_dir(process.join("task")) {
            Ok(threads) => {
                for thread in threads.flatten() {
                    self.threads += 1;
                    if self.threads > THREADS_MAX {
                        self.is_complete = false;
                        return;
                    }
                    self.thread(&thread.path(), wanted);
                }
            }
            // It ended meanwhile.
            Err(error) => self.is_complete &= error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn thread(&mut self, process: &Path, wanted: &Stat) {
        let descriptors = match fs::read_dir(process.join("fd")) {
            Ok(descriptors) => descriptors,
            Err(error) => {
                // It ended meanwhile, or is none of our business.
                self.is_complete &= error.kind() == io::ErrorKind::NotFound;
                return;
            }
        };
        for descriptor in descriptors.flatten() {
            let Ok(is) = stat(descriptor.path()) else { continue };
            if (is.st_dev, is.st_ino) != (wanted.st_dev, wanted.st_ino) {
                continue;
            }
            let info = process.join("fdinfo").join(descriptor.file_name());
            match fs::read_to_string(info).ok().and_then(|info| flags(&info)) {
                Some(flags) if flags & ACCESS == 0 => {}
                Some(flags) if flags & APPEND != 0 => self.appending += 1,
                Some(_) => self.others += 1,
                // It was closed meanwhile.
                None => {}
            }
        }
    }

    /// Whoever holds the file is somebody: when nobody is seen, not everybody is.
    fn verdict(self) -> Appends {
        match self {
            Self { others: 1.., .. } => Appends::NotAll,
            Self { is_complete: true, appending: 1.., .. } => Appends::All,
            _ => Appends::Unknown,
        }
    }
}

/// The flags of an open file in the text of its `fdinfo`.
fn flags(info: &str) -> Option<u32> {
    let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}
