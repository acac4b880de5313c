//! Between the broker and one of our own programs that serve files inside a container: what was done to which file, told
//! before the client hears of it.
//!
//! Only looks (attributes, lists of directories) are not told. What a program had open when it ended without
//! [`Report::End`] is known by what it had told before.

use serde::{Deserialize, Serialize};

/// Something about a file. Paths are absolute, as the container has them, unless its directory has no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A file is open.
    Opened {
        /// Means it from now on; never used twice.
        number: u64,
        /// As the client named it.
        path: Vec<u8>,
        /// What for: bits of draft-ietf-secsh-filexfer-02, 6.3.
        flags: u32,
    },
    /// It is not any more.
    Closed(Box<Closed>),
    /// Something was done, or tried, by name.
    Done {
        /// What.
        act: Act,
        /// Why it was not done.
        failed: Option<String>,
    },
    /// Nothing more comes: the program has ended by itself.
    End,
}

/// What was done with an open file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Which.
    pub number: u64,
    /// Read, for the client.
    pub read: Moved,
    /// Written, for the client.
    pub written: Moved,
    /// Attributes that were set.
    pub set: Set,
    /// Why it may not be whole.
    pub fault: Option<String>,
}

/// Bytes that went through a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moved {
    /// How many.
    pub bytes: u64,
    /// Of all of them, when they went from the first byte of the file on, one after the other.
    pub sha256: Option<[u8; 32]>,
}

/// Attributes that were set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Set {
    /// Length, in bytes.
    pub size: Option<u64>,
    /// Permissions.
    pub mode: Option<u32>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Times of the last access and change, in seconds of the epoch.
    pub times: Option<(u32, u32)>,
}

/// What can be done by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Open it; told only when that failed.
    Open {
        /// Which.
        path: Vec<u8>,
        /// As in [`Report::Opened`].
        flags: u32,
    },
    /// Remove a file.
    Remove {
        /// Which.
        path: Vec<u8>,
    },
    /// Make a directory.
    MakeDirectory {
        /// Which.
        path: Vec<u8>,
    },
    /// Remove one.
    RemoveDirectory {
        /// Which.
        path: Vec<u8>,
    },
    /// Give another name.
    Rename {
        /// The old one.
        path: Vec<u8>,
        /// The new one.
        to: Vec<u8>,
    },
    /// Make a symbolic link.
    Symlink {
        /// The link.
        path: Vec<u8>,
        /// What is in it, as it was sent.
        to: Vec<u8>,
    },
    /// Give a second name.
    Hardlink {
        /// The first.
        path: Vec<u8>,
        /// The second.
        to: Vec<u8>,
    },
    /// Set attributes.
    Set {
        /// Of which.
        path: Vec<u8>,
        /// What.
        set: Set,
    },
    /// Copy from one open file into another.
    Copy {
        /// From this one.
        from: u64,
        /// Into this one.
        to: u64,
        /// So many.
        bytes: u64,
    },
}
