//! Which container this process is in.

use std::fs::File;
use std::io::Read;

use super::Engine;
use super::container::Container;
use super::error::{EngineError, EngineErrorKind};

#[cfg(test)]
mod tests;

/// Most of a file in `/proc` that is read, in bytes.
const PROC_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Digits of a full container id.
const ID_DIGITS: usize = 64;
/// Digits of the short id that is a container's default host name.
const SHORT_ID_DIGITS: usize = 12;
/// Files that an engine mounts into every container from the directory named by its id.
const ENGINE_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

impl Engine {
    /// The container that this process is in, if it is in one of this engine's. Looks in
    /// `/proc/self/mountinfo`, then `/proc/self/cgroup`, then at the host name, and asks the
    /// engine about each.
    pub async fn own_container(&self) -> Result<Option<Container>, EngineError> {
        let mountinfo = read_proc("/proc/self/mountinfo");
        let cgroup = read_proc("/proc/self/cgroup");
        let name = rustix::system::uname();
        let host_name = name.nodename().to_string_lossy();
        for id in candidates(&mountinfo, &cgroup, &host_name) {
            match self.inspect_container(&id).await {
                Ok(container) if container.running && container.id.starts_with(&id) => {
                    return Ok(Some(container));
                }
                Ok(_) => {}
                Err(error) if error.kind() == EngineErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The id of the container that this process is in, as the kernel shows it, without asking an
/// engine. `None` outside of one, and where the engine hides it.
#[must_use]
pub fn own_container_id() -> Option<String> {
    let mountinfo = read_proc("/proc/self/mountinfo");
    let id = id_in_mountinfo(&mountinfo).map(str::to_owned);
    id.or_else(|| id_in_cgroup(&read_proc("/proc/self/cgroup")).map(str::to_owned))
}

/// A file that cannot be read names no container.
fn read_proc(path: &str) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(PROC_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Ids that this process's container may have, the surest first, each once.
fn candidates(mountinfo: &str, cgroup: &str, host_name: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let found = id_in_mountinfo(mountinfo)
        .into_iter()
        .chain(id_in_cgroup(cgroup))
        .chain(Some(host_name).filter(|name| is_id(name, SHORT_ID_DIGITS)));
    for id in found {
        if !ids.iter().any(|known| known.starts_with(id)) {
            ids.push(id.to_owned());
        }
    }
    ids
}

/// From lines as in `proc_pid_mountinfo(5)`: `… MAJOR:MINOR ROOT MOUNTPOINT …`, where ROOT of the
/// engine's files is `/var/lib/docker/containers/ID/hostname` or podman's
/// `/…/overlay-containers/ID/userdata/hostname`.
fn id_in_mountinfo(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        if !ENGINE_FILES.contains(&mount_point) {
            return None;
        }
        root.split('/').find(|part| is_id(part, ID_DIGITS))
    })
}

/// From lines as in `cgroups(7)`: `…:/docker/ID`, `…/docker-ID.scope`, `…/libpod-ID.scope/container`.
/// With a private cgroup namespace there is no id in it.
fn id_in_cgroup(cgroup: &str) -> Option<&str> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(|path| {
        path.split('/').rev().find_map(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let id = part.rsplit_once('-').map_or(part, |(_, id)| id);
            is_id(id, ID_DIGITS).then_some(id)
        })
    })
}

fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
