//! Sessions that a killed gateway has left behind: their cgroups still hold what they ran.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

#[cfg(test)]
mod tests;

/// Levels below a hierarchy that are looked through: `system.slice/docker-ID.scope/…` and deeper ones of nested engines.
const DEPTH_MAX: usize = 8;
/// Directories that are looked at.
const DIRECTORIES_MAX: usize = 200_000;
/// How often what is left is killed again, when it forks meanwhile.
const ROUNDS: usize = 50;

/// Kills what is left of the sessions whose cgroups begin with `prefix`, and removes these. Returns how many there
/// were. Blocks for a moment.
pub(crate) fn sweep(cgroup_root: &Path, prefix: &str) -> usize {
    let mut found = Vec::new();
    let mut budget = DIRECTORIES_MAX;
    look(cgroup_root, prefix, DEPTH_MAX, &mut budget, &mut found);
    found.iter().filter(|path| remove(path)).count()
}

fn look(
    directory: &Path,
    prefix: &str,
    depth: usize,
    budget: &mut usize,
    found: &mut Vec<PathBuf>,
) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        // No links: they lead to the same hierarchies by another name.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            found.push(path);
        } else if depth > 0 {
            look(&path, prefix, depth - 1, budget, found);
        }
    }
}

/// Whether it is gone.
fn remove(cgroup: &Path) -> bool {
    for _ in 0..ROUNDS {
        kill(cgroup);
        match fs::remove_dir(cgroup) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            // The dead leave it a moment later.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
    tracing::warn!("a session of a former gateway is left in {}", cgroup.display());
    false
}

fn kill(cgroup: &Path) {
    if write(&cgroup.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Version 1: nothing forks while it is frozen.
    let is_frozen = write(&cgroup.join("freezer.state"), "FROZEN").is_ok();
    for pid in processes(cgroup) {
        // The number may be another process's by now, unless it is still there once it is held.
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if processes(cgroup).contains(&pid)
            && let Err(error) = pidfd_send_signal(&held, Signal::KILL)
        {
            tracing::debug!("cannot kill {pid:?}: {error}");
        }
    }
    if is_frozen && let Err(error) = write(&cgroup.join("freezer.state"), "THAWED") {
        tracing::debug!("cannot thaw {}: {error}", cgroup.display());
    }
}

fn processes(cgroup: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// Writes to a file that is there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
