//! A tree with every kind of metadata a volume may hold: what breaks backup tools in the field.
//!
//! What this machine's file system or privileges refuse is returned in a list, so a test can say what it
//! did not cover; nothing is skipped in silence.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use crate::random::Random;
use crate::tree::{open_directory, path_in};

/// How many directories lie in each other in the deep part; with their names the path exceeds `PATH_MAX`.
pub const DEEP_COMPONENTS: usize = 300;

/// Length of the huge sparse file: more than an octal ustar size field can hold (bytes).
pub const HUGE_BYTES: u64 = (8 << 30) + (1 << 20) + 123;

/// Which of the costly exhibits to make.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The sparse file of more than 8 GiB.
    pub huge: bool,
    /// 20 MB of mixed content.
    pub bulk: bool,
    /// The path that is longer than `PATH_MAX`, which few tools can name.
    pub deep: bool,
    /// Sockets and devices.
    pub special: bool,
}

impl Options {
    /// Everything.
    pub const ALL: Self = Self { huge: true, bulk: true, deep: true, special: true };
    /// Only what is quick to make.
    pub const QUICK: Self = Self { huge: false, bulk: false, deep: true, special: true };
}

/// Fills the empty directory `root`; what could not be made is in the list, one sentence each.
///
/// # Panics
/// When `root` cannot be opened or plain files cannot be written.
pub fn build(root: &Path, options: Options) -> Vec<String> {
    let directory = open_directory(CWD, root.as_os_str())
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", root.display()));
    let mut zoo = Zoo { root: directory, refused: Vec::new() };
    zoo.sizes();
    zoo.modes_and_owners();
    zoo.times();
    zoo.names();
    zoo.order();
    zoo.links();
    zoo.attributes();
    zoo.holes(options.huge);
    if options.special {
        zoo.special_files(root);
    }
    if options.bulk {
        zoo.bulk();
    }
    if options.deep {
        zoo.deep();
    }
    zoo.root_itself();
    zoo.refused
}

struct Zoo {
    root: OwnedFd,
    refused: Vec<String>,
}

impl Zoo {
    fn attempt(&mut self, what: &str, outcome: rustix::io::Result<()>) {
        if let Err(error) = outcome {
            self.refused.push(format!("{what}: {error}"));
        }
    }

    fn directory(&self, path: impl AsRef<[u8]>) {
        rustix::fs::mkdirat(&self.root, path.as_ref(), Mode::from_raw_mode(0o755)).unwrap_or_else(
            |error| panic!("cannot make {}: {error}", path.as_ref().escape_ascii()),
        );
    }

    fn file(&self, path: impl AsRef<[u8]>, content: &[u8]) -> File {
        let file = create(self.root.as_fd(), path.as_ref());
        file.write_all_at(content, 0).unwrap_or_else(|error| {
            panic!("cannot write {}: {error}", path.as_ref().escape_ascii())
        });
        file
    }

    fn chmod(&mut self, path: &str, mode: u32) {
        let outcome =
            rustix::fs::chmodat(&self.root, path, Mode::from_raw_mode(mode), AtFlags::empty());
        self.attempt(&format!("mode {mode:04o} of {path}"), outcome);
    }

    fn chown(&mut self, path: &str, uid: u32, gid: u32) {
        let outcome = rustix::fs::chownat(
            &self.root,
            path,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        );
        self.attempt(&format!("owner {uid}:{gid} of {path}"), outcome);
    }

    fn touch(&mut self, path: &str, seconds: i64, nanos: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        let outcome = rustix::fs::utimensat(&self.root, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        self.attempt(&format!("time {seconds}.{nanos:09} of {path}"), outcome);
        let kept = rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_mtime, stat.st_mtime_nsec) == (seconds, nanos as _));
        if !kept {
            self.refused.push(format!(
                "time {seconds}.{nanos:09} of {path}: the file system keeps another"
            ));
        }
    }

    fn attribute(&mut self, path: &str, name: &str, value: &[u8]) {
        let full = path_in(self.root.as_fd(), path.as_bytes());
        let outcome = rustix::fs::lsetxattr(full.as_c_str(), name, value, XattrFlags::empty());
        self.attempt(&format!("attribute {name} of {path}"), outcome);
    }

    fn symlink(&mut self, target: impl AsRef<[u8]>, path: &str) {
        let outcome = rustix::fs::symlinkat(target.as_ref(), &self.root, path);
        self.attempt(&format!("symbolic link {path}"), outcome);
    }

    fn node(&mut self, path: &str, kind: FileType, device: u64) {
        let outcome =
            rustix::fs::mknodat(&self.root, path, kind, Mode::from_raw_mode(0o640), device);
        self.attempt(&format!("node {path}"), outcome);
    }

    fn link(&mut self, from: &str, to: &str) {
        let outcome = rustix::fs::linkat(&self.root, from, &self.root, to, AtFlags::empty());
        self.attempt(&format!("hard link {to}"), outcome);
    }

    /// Sizes around the borders of tar blocks and of the chunker.
    fn sizes(&mut self) {
        const CHUNK_BORDER: usize = 512 * 1024;
        self.directory("sizes");
        let mut random = Random::new(1);
        let border = [CHUNK_BORDER - 1, CHUNK_BORDER, CHUNK_BORDER + 1, 2 * CHUNK_BORDER];
        for size in [0, 1, 511, 512, 513].into_iter().chain(border) {
            self.file(format!("sizes/{size}"), &random.bytes(size));
        }
        self.directory("empty-directory");
    }

    fn modes_and_owners(&mut self) {
        self.directory("modes");
        for mode in [0o000, 0o111, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777] {
            let path = format!("modes/file-{mode:04o}");
            self.file(&path, format!("{mode:o}").as_bytes());
            self.chmod(&path, mode);
        }
        for mode in [0o000, 0o700, 0o1777, 0o2775] {
            let path = format!("modes/directory-{mode:04o}");
            self.directory(&path);
            self.file(format!("{path}/inside"), b"inside");
            self.chmod(&path, mode);
        }
        self.directory("owners");
        for id in [0, 1, 65_534, 2_097_151, 2_097_152, 1 << 31, 4_294_967_294] {
            let path = format!("owners/file-{id}");
            self.file(&path, b"owned");
            self.chown(&path, id, id);
        }
        self.file("owners/setuid-of-another", b"#!/bin/sh\n");
        self.chown("owners/setuid-of-another", 1234, 4321);
        self.chmod("owners/setuid-of-another", 0o6755);
        self.directory("owners/directory");
        self.chown("owners/directory", 1 << 31, 77);
    }

    fn times(&mut self) {
        self.directory("times");
        let times = [
            ("nanosecond", 1_700_000_000, 1),
            ("all-nines", 1_700_000_000, 999_999_999),
            ("whole", 1_700_000_000, 0),
            ("epoch", 0, 0),
            ("just-before-epoch", -1, 999_999_999),
            ("long-before-epoch", -2_000_000_000, 500_000_000),
            ("after-32-bits", 1 << 31, 0),
            ("year-2100", 4_102_444_800, 123_456_789),
            ("year-2400", 13_569_465_600, 0),
        ];
        for (name, seconds, nanos) in times {
            let path = format!("times/{name}");
            self.file(&path, name.as_bytes());
            self.touch(&path, seconds, nanos);
        }
        self.directory("times/directory");
        self.file("times/directory/inside", b"written before the directory is dated");
        self.touch("times/directory", -5, 7);
    }

    fn names(&mut self) {
        self.directory("names");
        let names: [&[u8]; 20] = [
            b"new\nline",
            b"carriage\rreturn",
            b"tab\t",
            b" leading and trailing ",
            b"quote\"s'`",
            b"back\\slash",
            b"-leading-dash",
            b"--",
            b"~",
            b"*?[glob]{a,b}",
            b"$HOME",
            b"%41%00",
            b"not-utf-8-\xff\xfe\x80",
            b"half-a-character-\xc3",
            "composed-\u{e9}".as_bytes(),
            "decomposed-e\u{301}".as_bytes(),
            "right-to-left-\u{202e}gnp".as_bytes(),
            b"...",
            b"key=value",
            b"\x01\x1b[31m",
        ];
        for name in names {
            self.file([b"names/", name].concat(), name);
        }
        self.file([&b"names/"[..], &[b'n'; 255]].concat(), b"a name of 255 bytes");
        self.file(
            [&b"names/"[..], "\u{e9}".repeat(127).as_bytes()].concat(),
            b"254 bytes of UTF-8",
        );
        self.file([&b"names/"[..], &[b'h'; 94]].concat(), b"exactly 100 bytes with its parent");
        self.file([&b"names/"[..], &[b'i'; 95]].concat(), b"one more than a tar header holds");
        self.directory([&b"names/"[..], &[b'd'; 255]].concat());
        self.file([&b"names/"[..], &[b'd'; 255], b"/inside"].concat(), b"below a long name");
        self.directory(b"names/directory-\xff");
        self.file(b"names/directory-\xff/\xfe", b"twice not UTF-8");
    }

    /// Names whose order as plain byte strings differs from the order of a depth-first walk.
    fn order(&mut self) {
        self.directory("order");
        self.directory("order/a");
        for name in ["a/b", "a/z", "a!", "a.b", "a-", "a0", "A", "ab", "a b"] {
            self.file(format!("order/{name}"), name.as_bytes());
        }
        self.directory("order/a.d");
        self.file("order/a.d/inside", b"inside");
    }

    fn links(&mut self) {
        self.directory("links");
        self.directory("links/one");
        self.directory("links/two");
        self.file("links/zz-first-written", b"one file, four names");
        self.link("links/zz-first-written", "links/one/name");
        self.link("links/zz-first-written", "links/two/name");
        self.link("links/zz-first-written", "links/aa-last-written");
        self.file("links/empty", b"");
        self.link("links/empty", "links/empty-again");
        self.node("links/fifo", FileType::Fifo, 0);
        self.link("links/fifo", "links/two/fifo-again");
        self.file("links/outside", b"its second name lies outside of the directory one");
        self.link("links/outside", "links/one/outside");

        self.symlink("name", "links/one/relative");
        self.symlink("/etc/hostname", "links/absolute");
        self.symlink("nowhere/to/be/found", "links/dangling");
        self.symlink("..", "links/up");
        self.symlink("loop", "links/loop");
        self.symlink(b"not-utf-8-\xff", "links/not-utf-8");
        self.symlink(b"new\nline", "links/new-line");
        self.symlink([b't'; 100], "links/target-of-100");
        self.symlink([b't'; 101], "links/target-of-101");
        self.symlink([b't'; 4095], "links/target-of-4095");
        self.symlink("name", "links/with-metadata");
        self.chown("links/with-metadata", 4242, 1 << 31);
        self.touch("links/with-metadata", -3, 33);
        self.link("links/with-metadata", "links/two/symlink-again");
    }

    fn attributes(&mut self) {
        // Version 2, effective; permitted = CAP_DAC_OVERRIDE | CAP_FOWNER = 0x0a, a new line as a byte
        // (struct vfs_cap_data in linux/capability.h).
        const CAPABILITY: [u8; 20] =
            [1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.directory("attributes");
        self.directory("attributes/directory");
        self.file("attributes/file", b"with attributes");
        for path in ["attributes/file", "attributes/directory"] {
            self.attribute(path, "user.text", b"plain");
            self.attribute(path, "user.empty", b"");
            self.attribute(path, "user.binary", b"\x00\x01\n=\xff\r\n\x00");
            self.attribute(path, "user.name=with=signs", b"a=b");
            self.attribute(path, "user.\u{fc}ber", b"not ASCII");
            self.attribute(path, "trusted.overlay.test", b"\n\n");
            self.attribute(path, "security.test", b"s\x00");
        }
        self.file("attributes/large", b"");
        self.attribute("attributes/large", "user.large", &[b'v'; 3000]);
        self.symlink("file", "attributes/symlink");
        self.attribute("attributes/symlink", "trusted.on-a-link", b"kept\n");
        self.file("attributes/capability", b"\x7fELF");
        self.chown("attributes/capability", 33, 33);
        self.chmod("attributes/capability", 0o4755);
        self.attribute("attributes/capability", "security.capability", &CAPABILITY);

        self.file("attributes/access-list", b"");
        self.attribute("attributes/access-list", "system.posix_acl_access", &access_list());
        self.directory("attributes/default-list");
        self.attribute("attributes/default-list", "system.posix_acl_access", &access_list());
        self.attribute("attributes/default-list", "system.posix_acl_default", &access_list());
        self.file("attributes/default-list/heir", b"inherits the list");
        self.directory("attributes/default-list/heir-directory");
        // A restorer that sets times before attributes or modes would be seen here.
        self.touch("attributes/file", 1_234_567_890, 987_654_321);
        self.touch("attributes/directory", 1_234_567_890, 987_654_321);
        self.chmod("attributes/file", 0o444);
    }

    fn holes(&mut self, huge: bool) {
        self.directory("holes");
        let mut random = Random::new(2);
        let mut sparse = |zoo: &Self, name: &str, size: u64, data: &[(u64, usize)]| {
            let file = zoo.file(format!("holes/{name}"), b"");
            file.set_len(size).expect("a sparse file");
            for (offset, length) in data {
                file.write_all_at(&random.bytes(*length), *offset).expect("data in a sparse file");
            }
        };
        sparse(self, "all-hole", 1 << 30, &[]);
        sparse(self, "hole-at-start", (1 << 20) + 77, &[(1 << 20, 77)]);
        sparse(self, "hole-at-end", 4 << 20, &[(0, 5000)]);
        sparse(self, "hole-of-an-odd-length", (1 << 20) + 1, &[(0, 1), (1 << 20, 1)]);
        sparse(self, "many-holes", 3 << 20, &(0..24).map(|n| (n << 17, 4096)).collect::<Vec<_>>());
        if huge {
            let middle = HUGE_BYTES / 2;
            sparse(self, "huge", HUGE_BYTES, &[(0, 9000), (middle, 70_000), (HUGE_BYTES - 10, 10)]);
        }
        self.file("holes/zeros-that-are-no-hole", &[0; 300_000]);
    }

    fn special_files(&mut self, root: &Path) {
        self.directory("special");
        self.node("special/fifo", FileType::Fifo, 0);
        self.touch("special/fifo", 1_600_000_000, 5);
        self.node("special/null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        self.node(
            "special/large-minor",
            FileType::CharacterDevice,
            rustix::fs::makedev(511, 1_048_575),
        );
        self.node("special/loop", FileType::BlockDevice, rustix::fs::makedev(7, 200));
        self.chown("special/null", 3, 1 << 31);
        // The name of the socket stays when its listener goes.
        let socket = root.join("special/socket");
        if let Err(error) = UnixListener::bind(&socket) {
            self.refused.push(format!("socket special/socket: {error}"));
        }
    }

    fn bulk(&mut self) {
        const MEBIBYTE: usize = 1 << 20;
        self.directory("bulk");
        let mut random = Random::new(3);
        let noise = random.bytes(7 * MEBIBYTE);
        self.file("bulk/text", &random.text(8 * MEBIBYTE));
        self.file("bulk/noise", &noise);
        // The same content a little further on: only content-defined cuts find it again.
        self.file(
            "bulk/noise-shifted",
            &[b"shift", noise.get(..5 * MEBIBYTE).unwrap_or_default()].concat(),
        );
        for number in 0..200 {
            let length = usize::try_from(random.below(4000)).unwrap_or(0);
            self.file(format!("bulk/small-{number:03}"), &random.text(length));
        }
    }

    fn deep(&mut self) {
        self.directory("deep");
        let mut directory =
            open_directory(&self.root, OsStr::new("deep")).expect("the deep directory");
        for level in 0..DEEP_COMPONENTS {
            let name = format!("level-{level:03}-of-many");
            let step = rustix::fs::mkdirat(&directory, name.as_str(), Mode::from_raw_mode(0o755))
                .and_then(|()| open_directory(&directory, OsStr::from_bytes(name.as_bytes())));
            match step {
                Ok(next) => directory = next,
                Err(error) => {
                    self.refused.push(format!("a path of {DEEP_COMPONENTS} directories: {error}"));
                    return;
                }
            }
        }
        create(directory.as_fd(), b"bottom")
            .write_all_at(b"the bottom", 0)
            .expect("a file at the bottom");
        let outcome = rustix::fs::symlinkat("bottom", &directory, "link");
        self.attempt("a symbolic link at the bottom", outcome);
        let full = path_in(directory.as_fd(), b"bottom");
        let outcome =
            rustix::fs::lsetxattr(full.as_c_str(), "user.deep", b"down\n", XattrFlags::empty());
        self.attempt("an attribute at the bottom", outcome);
    }

    /// The root directory of a volume has an owner and a mode too.
    fn root_itself(&mut self) {
        self.attribute(".", "user.root", b"of the volume");
        self.chown(".", 999, 998);
        self.chmod(".", 0o2771);
        self.touch(".", 1_500_000_000, 15);
    }
}

fn create(parent: BorrowedFd<'_>, path: &[u8]) -> File {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::from_raw_mode(0o644))
        .map(File::from)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.escape_ascii()))
}

/// `u::rw-,u:12345:r--,g::r--,g:2147483648:rwx,m::rwx,o::---` as the kernel keeps it: version 2, then tag,
/// permissions and id of each entry, little-endian (linux/posix_acl_xattr.h).
fn access_list() -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 6, NO_ID),
        (0x02, 4, 12_345),
        (0x04, 4, NO_ID),
        (0x08, 7, 1 << 31),
        (0x10, 7, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The bytes on disk below `root`: a zoo is mostly holes.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn allocated_bytes(root: &Path) -> u64 {
    let allocated = |node: &crate::tree::Node| match &node.kind {
        crate::tree::Kind::File(content) => content.allocated,
        _ => 0,
    };
    crate::tree::read(root).values().map(allocated).sum()
}

/// Copies a tree with GNU cp, which keeps links, holes, owners, times and attributes.
///
/// # Panics
/// When cp fails.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("cannot make {}: {error}", to.display()));
    crate::process::Run::new("cp")
        .args(["--archive", "--sparse=always", "--no-target-directory"])
        .arg(from)
        .arg(to)
        .succeed();
}

#[cfg(test)]
mod tests;
