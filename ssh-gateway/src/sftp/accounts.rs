//! Names of users and groups, from the container's own files.
//!
//! They are only shown, and belong to the user who sees them: what cannot be read or is not plain is left
//! out. No name service is asked.

use std::collections::BTreeMap;

use crate::enter::account::{GROUP, PASSWD, groups, read, users};

/// Longer names are not shown. In bytes, as useradd(8).
const NAME_BYTES_MAX: usize = 32;

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
        let groups =
            self.groups.get_or_insert_with(|| Names::of_groups(&read(GROUP).unwrap_or_default()));
        groups.by_number.get(&number).map(String::as_str)
    }

    /// The home directory of a user by name.
    pub(crate) fn home(&mut self, user: &[u8]) -> Option<Vec<u8>> {
        self.users().homes.get(user).cloned()
    }

    fn users(&mut self) -> &Names {
        self.users.get_or_insert_with(|| Names::of_users(&read(PASSWD).unwrap_or_default()))
    }
}

impl Names {
    /// Of two entries the first counts, as everywhere.
    fn of_users(file: &[u8]) -> Self {
        let mut names = Self::default();
        for user in users(file) {
            names.add(user.uid, user.name);
            if user.home.starts_with(b"/") {
                names.homes.entry(user.name.to_vec()).or_insert_with(|| user.home.to_vec());
            }
        }
        names
    }

    fn of_groups(file: &[u8]) -> Self {
        let mut names = Self::default();
        for group in groups(file) {
            names.add(group.gid, group.name);
        }
        names
    }

    fn add(&mut self, number: u32, name: &[u8]) {
        if let Some(name) = plain(name) {
            self.by_number.entry(number).or_insert_with(|| name.to_owned());
        }
    }
}

/// A name that can stand between blanks and on a terminal.
fn plain(name: &[u8]) -> Option<&str> {
    let short = (1..=NAME_BYTES_MAX).contains(&name.len());
    let name = std::str::from_utf8(name).ok()?;
    (short && name.bytes().all(|byte| byte.is_ascii_graphic())).then_some(name)
}

#[cfg(test)]
mod tests;
