//! Names of users and groups, from the container's own files.
//!
//! They are only shown, and belong to the user who sees them: what cannot be read or is not plain is left
//! out. No name service is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use rustix::fs::{FileType, Mode, OFlags};

/// Of either file no more than this is read. In bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longer names are not shown. In bytes, as useradd(8).
const NAME_BYTES_MAX: usize = 32;

/// Where the users stand (passwd(5)).
const USERS: &str = "/etc/passwd";
/// Where the groups stand (group(5)).
const GROUPS: &str = "/etc/group";

/// Both files, read when first needed.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    users: Option<Names>,
    groups: Option<Names>,
}

/// Names by number, and home directories by name.
#[derive(Debug, Default)]
struct Names {
    by_number: BTreeMap<u32, String>,
    homes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Accounts {
    /// The name of a user.
    pub(super) fn user(&mut self, number: u32) -> Option<&str> {
        self.users().by_number.get(&number).map(String::as_str)
    }

    /// The name of a group.
    pub(super) fn group(&mut self, number: u32) -> Option<&str> {
        let groups = self.groups.get_or_insert_with(|| Names::parse(&read(GROUPS)));
        groups.by_number.get(&number).map(String::as_str)
    }

    /// The home directory of a user by name.
    pub(crate) fn home(&mut self, user: &[u8]) -> Option<Vec<u8>> {
        self.users().homes.get(user).cloned()
    }

    fn users(&mut self) -> &Names {
        self.users.get_or_insert_with(|| Names::parse(&read(USERS)))
    }
}

impl Names {
    /// `name:…:number` a line, and with six or more fields a home directory; the first of two lines counts.
    fn parse(file: &[u8]) -> Self {
        let mut names = Self::default();
        for line in file.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let (Some(name), Some(_password), Some(number)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(plain) = plain(name) else { continue };
            if let Some(number) = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()) {
                names.by_number.entry(number).or_insert_with(|| plain.to_owned());
            }
            if let Some(home) = fields.nth(2)
                && home.starts_with(b"/")
            {
                names.homes.entry(name.to_vec()).or_insert_with(|| home.to_vec());
            }
        }
        names
    }
}

/// A name that can stand between blanks and on a terminal.
fn plain(name: &[u8]) -> Option<&str> {
    let short = (1..=NAME_BYTES_MAX).contains(&name.len());
    let name = std::str::from_utf8(name).ok()?;
    (short && name.bytes().all(|byte| byte.is_ascii_graphic())).then_some(name)
}

/// The beginning of a regular file; nothing if it is another thing, or not there.
fn read(path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    // NONBLOCK: in a hostile container it may be a pipe that nobody writes to.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return content };
    let regular =
        rustix::fs::fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    if regular && File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut content).is_err() {
        content.clear();
    }
    content
}

#[cfg(test)]
mod tests;
