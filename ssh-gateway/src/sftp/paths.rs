//! Names of files made absolute.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use chores_common::sftp::PATH_BYTES_MAX;

/// As the kernel: more links than this are a circle (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// `path` absolute, without links, dots and double slashes. Its last component need not exist: clients ask
/// for the names of what they are about to create.
pub(super) fn real(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let start = if path.starts_with(b"/") {
        Vec::new()
    } else {
        rustix::process::getcwd(Vec::new())?.into_bytes()
    };
    resolve(path, start, look)
}

/// What stands under a name: `None` if it is not a symbolic link, else where it points.
fn look(path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    if !FileType::from_raw_mode(rustix::fs::lstat(path)?.st_mode).is_symlink() {
        return Ok(None);
    }
    rustix::fs::readlink(path, Vec::new()).map(|target| Some(target.into_bytes()))
}

/// Resolves `path` from the absolute directory `start`, asking `look` about every name on the way.
fn resolve(
    path: &[u8],
    start: Vec<u8>,
    mut look: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut done = start;
    let mut left = path.to_vec();
    let mut links = 0;
    while !left.is_empty() {
        let (component, rest) = match left.iter().position(|byte| *byte == b'/') {
            Some(slash) => {
                let (component, rest) = left.split_at(slash);
                (component, rest.get(1..))
            }
            None => (left.as_slice(), None),
        };
        match component {
            b"" | b"." => {
                left = rest.unwrap_or_default().to_vec();
                continue;
            }
            b".." => {
                parent(&mut done);
                left = rest.unwrap_or_default().to_vec();
                continue;
            }
            name => {
                if !done.ends_with(b"/") {
                    done.push(b'/');
                }
                done.extend_from_slice(name);
            }
        }
        if done.len() > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        match look(&done) {
            Ok(None) => left = rest.unwrap_or_default().to_vec(),
            Ok(Some(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    done.clear();
                } else {
                    parent(&mut done);
                }
                let mut longer = target;
                if let Some(rest) = rest {
                    longer.push(b'/');
                    longer.extend_from_slice(rest);
                }
                if longer.len() > PATH_BYTES_MAX {
                    return Err(Errno::NAMETOOLONG);
                }
                left = longer;
            }
            Err(Errno::NOENT) if rest.is_none() => break,
            Err(error) => return Err(error),
        }
    }
    if done.is_empty() {
        done.push(b'/');
    }
    Ok(done)
}

/// Takes the last component off; above the root is the root.
fn parent(path: &mut Vec<u8>) {
    while path.pop().is_some_and(|byte| byte != b'/') {}
}

/// `~` and `~/…` with `home`, `~user` and `~user/…` with what `home_of` knows; anything else as it is.
/// `None` when there is no such user.
pub(super) fn expand(
    path: &[u8],
    home: &Path,
    home_of: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let Some(after) = path.strip_prefix(b"~") else { return Some(path.to_vec()) };
    let slash = after.iter().position(|byte| *byte == b'/').unwrap_or(after.len());
    let (user, rest) = after.split_at(slash);
    let mut expanded = match user {
        b"" => home.as_os_str().as_bytes().to_vec(),
        user => home_of(user)?,
    };
    expanded.extend_from_slice(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests;
