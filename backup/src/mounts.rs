//! Which mounts of this container are volumes, decided from the text of `/proc/self/mountinfo`
//! (proc_pid_mountinfo(5)).
//!
//! A volume is every mount that is not the root, not a view into the kernel, not memory (`tmpfs` dies
//! with its container; name its path to save it all the same), not a socket, and not one of the files
//! that engines put into every container.

use std::collections::BTreeMap;

use crate::entry::PathBytes;

/// Most mounts looked at; a host has hundreds, a container a dozen.
pub const MOUNTS_MAX: usize = 100_000;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is, without the leading `/`; empty for the root.
    pub mount_point: PathBytes,
    /// The file system's type, such as `ext4`.
    pub fs_type: String,
    /// What is mounted, as the file system names it: a device, a share, a word.
    pub source: PathBytes,
    /// The directory of that file system which is seen here, such as a volume's `_data`.
    pub root: PathBytes,
    /// Mounted read-only here.
    pub read_only: bool,
}

/// A mount whose content is somebody's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Where it is, without the leading `/`.
    pub mount_point: PathBytes,
    /// The file system's type, such as `ext4`.
    pub fs_type: String,
    /// What is mounted, as the file system names it.
    pub source: PathBytes,
    /// Mounted read-only here, as it should be for a backup.
    pub read_only: bool,
}

/// Mount points that belong to the kernel or the engine, with all below.
const SYSTEM_TREES: &[&[u8]] = &[b"proc", b"sys", b"dev", b"run/secrets", b"var/run/secrets"];

/// Files that Docker and Podman mount into every container.
const ENGINE_FILES: &[&[u8]] = &[
    b"etc/resolv.conf",
    b"etc/hostname",
    b"etc/hosts",
    b"run/.containerenv",
    b"run/podman-init",
    b"sbin/docker-init",
];

/// File systems without anybody's data.
const SYSTEM_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// Reads mountinfo in the order of its lines. Lines that do not fit the format are passed over, as a
/// newer kernel may add what this version does not know.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).take(MOUNTS_MAX).collect()
}

/// Picks the volumes among `mounts`, sorted by mount point; `own` are paths (without the leading `/`)
/// of the repository and the cache, which are left out with all mounts below them.
#[must_use]
pub fn volumes(mounts: &[Mount], own: &[PathBytes]) -> Vec<VolumeMount> {
    // The last mount on a point hides those before it.
    let visible: BTreeMap<&[u8], &Mount> =
        mounts.iter().map(|mount| (mount.mount_point.as_slice(), mount)).collect();
    let mut volumes: Vec<VolumeMount> = visible
        .into_iter()
        .filter(|(point, mount)| {
            is_volume(mount) && !own.iter().any(|own| is_at_or_below(point, own))
        })
        .map(|(_, mount)| VolumeMount {
            mount_point: mount.mount_point.clone(),
            fs_type: mount.fs_type.clone(),
            source: mount.source.clone(),
            read_only: mount.read_only,
        })
        .collect();
    volumes.sort_by(|a, b| crate::entry::tree_order(&a.mount_point, &b.mount_point));
    volumes
}

/// Whether `path` lies below `directory` and is not the directory itself; the empty one is the root.
#[must_use]
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        Some(b"") | None => false,
        Some(rest) => directory.is_empty() || rest.starts_with(b"/"),
    }
}

fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    path == directory || is_below(path, directory)
}

fn is_volume(mount: &Mount) -> bool {
    let point = mount.mount_point.as_slice();
    !is_system_point(point) && !SYSTEM_TYPES.contains(&mount.fs_type.as_str())
}

/// Whether a mount at this point (without the leading `/`) is nobody's data: the root, a socket, or a
/// place of the kernel or the engine.
#[must_use]
pub fn is_system_point(point: &[u8]) -> bool {
    point.is_empty()
        || point.ends_with(b".sock")
        || SYSTEM_TREES.iter().any(|tree| is_at_or_below(point, tree))
        || ENGINE_FILES.contains(&point)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: the number of
/// optional fields before the `-` varies.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, mount_point, options) = (fields.nth(3)?, fields.next()?, fields.next()?);
    fields.find(|field| *field == b"-")?;
    let (fs_type, source) = (fields.next()?, fields.next()?);
    let mount_point = unescape(mount_point);
    Some(Mount {
        mount_point: mount_point.strip_prefix(b"/")?.to_vec(),
        // A type with a subtype, such as fuse.sshfs, stays whole.
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: unescape(source),
        root: unescape(root),
        read_only: options.split(|byte| *byte == b',').any(|option| option == b"ro"),
    })
}

/// Space, tab, newline and backslash are written as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..] => {
                Some(((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), behind))
            }
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((*first, behind));
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

#[cfg(test)]
mod tests;
