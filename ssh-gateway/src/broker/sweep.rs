//! Sessions that a killed gateway has left behind: their cgroups still hold what they ran.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

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
    if fs::write(cgroup.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Version 1: nothing forks while it is frozen.
    let is_frozen = fs::write(cgroup.join("freezer.state"), "FROZEN").is_ok();
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!("cannot kill {pid:?}: {error}");
        }
    }
    if is_frozen && let Err(error) = fs::write(cgroup.join("freezer.state"), "THAWED") {
        tracing::debug!("cannot thaw {}: {error}", cgroup.display());
    }
}
