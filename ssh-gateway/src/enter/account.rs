//! Who a user is inside a container, by its own passwd(5) and group(5), with the rules that the engine has for
//! `--user` and `--group-add`.
//!
//! The files are in the hands of the container: they are opened so that nothing waits and nothing outside is
//! reached, and read so far and no further. What cannot be read counts as empty.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use super::step::{Identity, Step, failure};
use crate::wire::task::{FailureKind, User};

/// The files are not read further. In bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longer lines are passed over. In bytes.
const LINE_BYTES_MAX: usize = 4096;
/// Later entries are not read.
const ENTRIES_MAX: usize = 10_000;
/// Ids above are no ids: (uid_t)-1 means "unchanged", and the engine takes no more than this.
const ID_MAX: u32 = i32::MAX as u32;

/// Where users are listed.
pub(crate) const PASSWD: &str = "/etc/passwd";
/// Where groups are listed.
pub(crate) const GROUP: &str = "/etc/group";

/// A user inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name; its number if it has none.
    pub name: Vec<u8>,
    /// Its numbers.
    pub identity: Identity,
    /// Its home directory; `/` if it has none.
    pub home: Vec<u8>,
    /// Its shell, if it has one.
    pub shell: Option<Vec<u8>>,
}

/// Who this is in the container whose mount namespace we are in.
pub fn find(user: &User) -> Step<Account> {
    let (passwd, group) = (read(PASSWD), read(GROUP));
    resolve(user, passwd.as_deref().unwrap_or_default(), group.as_deref().unwrap_or_default())
        .map_err(|reason| {
            let unreadable = [(PASSWD, passwd.err()), (GROUP, group.err())];
            let unreadable =
                unreadable.into_iter().filter_map(|(path, error)| Some((path, error?)));
            let why: Vec<_> =
                unreadable.map(|(path, error)| format!("; {path}: {error}")).collect();
            failure(FailureKind::User, format!("{reason}{}", why.concat()))
        })
}

/// The beginning of a regular file inside.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An entry of passwd(5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passwd<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) uid: u32,
    gid: u32,
    pub(crate) home: &'a [u8],
    shell: &'a [u8],
}

/// An entry of group(5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) gid: u32,
    members: &'a [u8],
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n')
        .filter(|line| line.len() <= LINE_BYTES_MAX && !line.contains(&0))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| line.split(|byte| *byte == b':').collect())
        .take(ENTRIES_MAX)
}

/// The entries of a passwd file.
pub(crate) fn users(file: &[u8]) -> impl Iterator<Item = Passwd<'_>> {
    lines(file).filter_map(|fields| match fields.as_slice() {
        &[name, _, uid, gid, _, home, shell] if !name.is_empty() => {
            Some(Passwd { name, uid: id(uid)?, gid: id(gid)?, home, shell })
        }
        _ => None,
    })
}

/// The entries of a group file.
pub(crate) fn groups(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).filter_map(|fields| match fields.as_slice() {
        &[name, _, gid, members] if !name.is_empty() => {
            Some(Group { name, gid: id(gid)?, members })
        }
        _ => None,
    })
}

fn id(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()?;
    (number <= ID_MAX).then_some(number)
}

/// Who this is by these two files; why there is nobody.
pub fn resolve(user: &User, passwd: &[u8], group: &[u8]) -> Result<Account, String> {
    let Some(asked) = user.name.as_deref().filter(|name| !name.is_empty()) else {
        let entry = users(passwd).find(|entry| entry.uid == user.container_uid);
        let identity = Identity {
            uid: user.container_uid,
            gid: user.container_gid,
            groups: user.container_groups.clone(),
        };
        return Ok(account(entry.as_ref(), identity));
    };
    let (name, group_name) = match asked.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let number = id(name.as_bytes());
    let entry = users(passwd)
        .find(|entry| entry.name == name.as_bytes() || number.is_some_and(|uid| entry.uid == uid));
    let (uid, mut gid) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(format!("the container has no user {name:?}")),
    };
    let mut memberships = Vec::new();
    match (group_name, &entry) {
        (Some(wanted), _) => gid = gid_of(wanted, group)?,
        (None, Some(entry)) => {
            let is_in = |group: &Group<'_>| {
                group.members.split(|byte| *byte == b',').any(|member| member == entry.name)
            };
            memberships.extend(groups(group).filter(is_in).map(|group| group.gid));
        }
        (None, None) => {}
    }
    let mut all = vec![gid];
    all.extend(memberships);
    for wanted in &user.group_add {
        all.push(gid_of(wanted, group)?);
    }
    Ok(account(entry.as_ref(), Identity { uid, gid, groups: all }))
}

fn gid_of(wanted: &str, group: &[u8]) -> Result<u32, String> {
    let number = id(wanted.as_bytes());
    groups(group)
        .find(|entry| entry.name == wanted.as_bytes() || number.is_some_and(|gid| entry.gid == gid))
        .map(|entry| entry.gid)
        .or(number)
        .ok_or_else(|| format!("the container has no group {wanted:?}"))
}

fn account(entry: Option<&Passwd<'_>>, identity: Identity) -> Account {
    let home = entry.map(|entry| entry.home).filter(|home| home.starts_with(b"/"));
    let shell = entry.map(|entry| entry.shell).filter(|shell| shell.starts_with(b"/"));
    Account {
        name: match entry {
            Some(entry) => entry.name.to_vec(),
            None => identity.uid.to_string().into_bytes(),
        },
        home: home.unwrap_or(b"/").to_vec(),
        shell: shell.map(<[u8]>::to_vec),
        identity,
    }
}

#[cfg(test)]
mod tests;
