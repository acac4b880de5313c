//! The archives as the tools of the world see them: GNU tar, bsdtar (libarchive) and Python's tarfile
//! list and extract a zoo of entries, and what they make is compared with what was written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Output};

use super::*;
use crate::entry::tree_order;

/// What a path has after extraction; fields that a test's oracle cannot restore are blanked on both
/// sides before they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    xattrs: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    holes: bool,
    /// The first path, in path order, of the same inode.
    same_as: Vec<u8>,
}

type Zoo = BTreeMap<Vec<u8>, Seen>;

struct Animal {
    entry: Entry,
    data: Vec<(u64, u64)>,
    body: Vec<u8>,
}

const DATA_BLOCK: u64 = 64 * 1024;

fn animal(entry: Entry, body: &[u8]) -> Animal {
    Animal { data: whole(body.len() as u64), body: body.to_vec(), entry }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }
}

/// An access ACL as the kernel stores it (acl(5), linux/posix_acl_xattr.h): rw for the owner, rw for
/// user 1234, r for the group, rw as mask, nothing for others.
pub(super) fn acl() -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, NO_ID), (2, 6, 1234), (4, 4, NO_ID), (0x10, 6, NO_ID), (0x20, 0, NO_ID)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// `security.capability`, revision 2 (capabilities(7)), with 0x0A as the byte that holds
/// CAP_DAC_OVERRIDE and CAP_FOWNER: the newline that breaks parsers.
fn capability() -> Vec<u8> {
    let mut value = 0x0200_0001_u32.to_le_bytes().to_vec();
    value.extend([0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    value
}

fn zoo() -> Vec<Animal> {
    let mut animals = vec![
        animal(entry("", Kind::Directory), b""),
        animal(file("empty", 0), b""),
        animal(file("plain", 700), &[b'p'; 700]),
        animal(file("block", 512), &[b'b'; 512]),
        animal(file("with space\nand newline", 1), b"n"),
        animal(file("\u{fc}ml\u{e4}ut-\u{65e5}\u{672c}", 1), b"u"),
        animal(entry("fifo", Kind::Fifo), b""),
        animal(entry("char", Kind::CharDevice(1, 3)), b""),
        animal(entry("block-device", Kind::BlockDevice(259, 1_048_575)), b""),
        animal(entry("link", Kind::Symlink(b"plain".to_vec())), b""),
        animal(entry("dangling", Kind::Symlink(b"../no/\xff\xfe".to_vec())), b""),
        animal(entry("far", Kind::Symlink(vec![b't'; 3000])), b""),
        animal(entry("dir", Kind::Directory), b""),
        animal(file("dir/child", 2), b"cc"),
    ];
    let bytes = |name: &[u8]| Entry { path: name.to_vec(), ..file("", 1) };
    animals.push(animal(bytes(b"latin1-\xe4\xff"), b"l"));
    animals.push(animal(bytes(&[b"long-\xff".as_slice(), &[b'n'; 200]].concat()), b"l"));
    let deep = vec!["component1"; 300].join("/");
    animals.push(animal(file(&deep, 4), b"deep"));

    let mut modes = file("modes", 1);
    (modes.mode, modes.uid, modes.gid) = (0o6755, 1 << 31, (1 << 31) + 1);
    animals.push(animal(modes, b"m"));
    let mut sticky = entry("sticky", Kind::Directory);
    sticky.mode = 0o3777;
    sticky.mtime = Timestamp { seconds: 1_000_000_000, nanos: 123_456_789 };
    animals.push(animal(sticky, b""));
    let mut old = file("old", 1);
    old.mtime = Timestamp { seconds: -1_000_000, nanos: 250_000_000 };
    animals.push(animal(old, b"o"));
    let mut future = file("future", 1);
    future.mtime = Timestamp { seconds: 9_000_000_000, nanos: 1 };
    animals.push(animal(future, b"f"));
    let mut moment = entry("moment", Kind::Symlink(b"x".to_vec()));
    moment.mtime.nanos = 987_654_321;
    animals.push(animal(moment, b""));

    let mut attributes = file("attributes", 1);
    attributes.xattrs = vec![
        xattr("trusted.t", b"\0\n=\xff"),
        xattr("user.a=b%", b"equals"),
        xattr("user.empty", b""),
        xattr("user.lines", b"one\ntwo=2\n17 path=evil\n\0"),
    ];
    animals.push(animal(attributes, b"a"));
    let mut directory = entry("attributed", Kind::Directory);
    directory.xattrs = vec![xattr("user.d", b"\n\n")];
    animals.push(animal(directory, b""));
    let mut capable = file("capable", 1);
    (capable.mode, capable.xattrs) = (0o755, vec![xattr("security.capability", &capability())]);
    animals.push(animal(capable, b"c"));
    let mut listed = file("listed", 1);
    (listed.mode, listed.xattrs) = (0o660, vec![xattr("system.posix_acl_access", &acl())]);
    animals.push(animal(listed, b"l"));

    let mut inherited = entry("inherited", Kind::Directory);
    inherited.xattrs = vec![xattr("system.posix_acl_default", &acl())];
    animals.push(animal(inherited, b""));
    let mut attributed_link = entry("attributed-link", Kind::Symlink(b"plain".to_vec()));
    attributed_link.xattrs = vec![xattr("trusted.link", b"l")];
    animals.push(animal(attributed_link, b""));

    for (name, first) in [("plain-2", "plain"), ("second-fifo", "fifo")] {
        let mut again =
            animals.iter().find(|a| a.entry.path == first.as_bytes()).unwrap().entry.clone();
        again.path = name.as_bytes().to_vec();
        again.hardlink_of = Some(first.as_bytes().to_vec());
        animals.push(Animal { entry: again, data: Vec::new(), body: Vec::new() });
    }

    let sparse = |name: &[u8], size, data: &[(u64, u64)]| Animal {
        entry: Entry { path: name.to_vec(), ..file("", size) },
        data: data.to_vec(),
        body: data.iter().flat_map(|(_, length)| vec![b's'; *length as usize]).collect(),
    };
    animals.extend([
        sparse(b"holes", 20 * DATA_BLOCK, &[(DATA_BLOCK, DATA_BLOCK), (9 * DATA_BLOCK, 100)]),
        sparse(b"hole-first-\xff", 3 * DATA_BLOCK, &[(2 * DATA_BLOCK, DATA_BLOCK)]),
        sparse(b"all-hole", 1 << 20, &[]),
        sparse(&[b'h'; 180], 10 << 30, &[((9 << 30) + DATA_BLOCK, DATA_BLOCK)]),
    ]);
    animals.sort_by(|a, b| tree_order(&a.entry.path, &b.entry.path));
    animals
}

fn write_zoo(path: &Path) {
    let mut writer = TarWriter::new(BufWriter::new(File::create(path).unwrap()));
    for animal in zoo() {
        assert_eq!(writer.begin(&animal.entry, &animal.data).unwrap(), Outcome::Written);
        writer.write_body(&animal.body).unwrap();
        writer.end_entry().unwrap();
    }
    writer.finish().unwrap().into_inner().unwrap().sync_all().unwrap();
}

fn expected() -> Zoo {
    let animals = zoo();
    let first =
        |animal: &Animal| animal.entry.hardlink_of.clone().unwrap_or(animal.entry.path.clone());
    let least_name = |path: &[u8]| {
        let names = animals.iter().filter(|a| first(a) == path).map(|a| a.entry.path.clone());
        names.min().unwrap()
    };
    animals
        .iter()
        .map(|animal| {
            let entry = &animal.entry;
            let origin = animals.iter().find(|a| a.entry.path == first(animal)).unwrap();
            let seen = Seen {
                kind: match &entry.kind {
                    Kind::Directory => "directory".to_owned(),
                    Kind::File(content) => format!("file of {} bytes", content.size),
                    Kind::Symlink(target) => format!("link to {}", target.escape_ascii()),
                    Kind::Fifo => "fifo".to_owned(),
                    Kind::Socket => unreachable!("sockets are not written"),
                    Kind::CharDevice(major, minor) => format!("character device {major} {minor}"),
                    Kind::BlockDevice(major, minor) => format!("block device {major} {minor}"),
                },
                mode: if matches!(entry.kind, Kind::Symlink(_)) { 0o777 } else { entry.mode },
                owner: (entry.uid, entry.gid),
                mtime: (entry.mtime.seconds, entry.mtime.nanos.into()),
                xattrs: entry
                    .xattrs
                    .iter()
                    .map(|x| (String::from_utf8(x.name.clone()).unwrap(), x.value.clone()))
                    .collect(),
                body: origin.body.clone(),
                holes: origin.data.iter().map(|(_, length)| length).sum::<u64>() < entry.size(),
                same_as: least_name(&first(animal)),
            };
            (entry.path.clone(), seen)
        })
        .collect()
}

/// What is under `root`, without the directories that were only made to hold other paths.
fn seen(root: &Path) -> Zoo {
    let wanted = expected();
    let mut zoo = Zoo::new();
    let mut inodes = BTreeMap::<u64, Vec<u8>>::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|child| child.unwrap().path()));
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        if metadata.is_dir() && !wanted.contains_key(&name) {
            continue;
        }
        if !metadata.is_dir() {
            let first = inodes.entry(metadata.ino()).or_insert_with(|| name.clone());
            *first = first.clone().min(name.clone());
        }
        let (body, holes) = body(&path, &metadata);
        let (major, minor) =
            (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            "directory".to_owned()
        } else if file_type.is_file() {
            format!("file of {} bytes", metadata.size())
        } else if file_type.is_symlink() {
            format!(
                "link to {}",
                fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii()
            )
        } else if file_type.is_fifo() {
            "fifo".to_owned()
        } else if file_type.is_char_device() {
            format!("character device {major} {minor}")
        } else {
            format!("block device {major} {minor}")
        };
        let seen = Seen {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: xattrs(&path),
            body,
            holes,
            // The inode until all names are known.
            same_as: metadata.ino().to_string().into_bytes(),
        };
        zoo.insert(name, seen);
    }
    for (name, seen) in &mut zoo {
        let inode: u64 = std::str::from_utf8(&seen.same_as).unwrap().parse().unwrap();
        seen.same_as = inodes.get(&inode).unwrap_or(name).clone();
    }
    zoo
}

/// The bytes outside holes, and whether there are holes; zeros at a range's end do not count, because a
/// file system keeps whole blocks.
fn body(path: &Path, metadata: &fs::Metadata) -> (Vec<u8>, bool) {
    if !metadata.is_file() {
        return (Vec::new(), false);
    }
    let file = File::open(path).unwrap();
    let mut body = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
        let mut range = vec![0; usize::try_from(at - start).unwrap()];
        file.read_exact_at(&mut range, start).unwrap();
        body.extend(range.into_iter().filter(|byte| *byte != 0));
    }
    (body, metadata.blocks() * 512 < metadata.size())
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut xattrs: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"security.selinux"))
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap().to_owned();
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect();
    xattrs.sort();
    xattrs
}

fn assert_same(expected: &Zoo, seen: &Zoo) {
    let names: std::collections::BTreeSet<_> = expected.keys().chain(seen.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| expected.get(*name) != seen.get(*name))
        .map(|name| {
            let (wanted, found) = (expected.get(name), seen.get(name));
            format!("{}\n  wanted {wanted:?}\n  found  {found:?}\n", name.escape_ascii())
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.concat());
}

/// True when `program` can be the oracle: it exists and we may make devices and owners.
fn oracle(program: &str) -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "only root can restore owners and devices".to_owned()
    } else if let Err(error) = Command::new(program).arg("--version").output() {
        format!("{program} cannot be started: {error}")
    } else {
        return true;
    };
    assert!(
        std::env::var_os("CHORES_REQUIRE_ENGINE").is_none_or(|value| value != "1"),
        "{program} is required here: {missing}"
    );
    eprintln!("{program} is not asked: {missing}");
    false
}

fn run(program: &str, arguments: &[&OsStr]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn extracted(program: &str, arguments: &[&str]) -> Zoo {
    let scratch = tempfile::tempdir().unwrap();
    let (archive, root) = (scratch.path().join("zoo.tar"), scratch.path().join("root"));
    write_zoo(&archive);
    fs::create_dir(&root).unwrap();
    let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    all.extend([archive.as_os_str(), OsStr::new("-C"), root.as_os_str()]);
    run(program, &all);
    seen(&root)
}

#[test]
fn gnu_tar_restores_everything() {
    if !oracle("tar") {
        return;
    }
    let options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"];
    assert_same(&expected(), &extracted("tar", &options));
}

#[test]
fn bsdtar_restores_everything_but_escaped_names_and_fractions_before_1970() {
    if !oracle("bsdtar") {
        return;
    }
    let mut wanted = expected();
    // libarchive does not know GNU tar's escape for `=` in the name of an attribute.
    for (name, _) in &mut wanted.get_mut(b"attributes".as_slice()).unwrap().xattrs {
        *name = name.replace("user.a=b%", "user.a%3Db%25");
    }
    // bsdtar leaves the directory alone that it extracts into, with its own archives too.
    let found = extracted("bsdtar", &["--numeric-owner", "-xpf"]);
    let root = wanted.get_mut(b"".as_slice()).unwrap();
    root.mtime = found[b"".as_slice()].mtime;
    // libarchive 3.6 adds the fraction of a negative time instead of subtracting it.
    let old = &mut wanted.get_mut(b"old".as_slice()).unwrap().mtime;
    assert_eq!(*old, (-1_000_000, 250_000_000));
    *old = (-999_999, 750_000_000);
    assert_same(&wanted, &found);
}

#[test]
fn python_restores_everything_but_attributes_and_exact_times() {
    if !oracle("python3") {
        return;
    }
    let script = "import sys, tarfile\n\
        archive = tarfile.open(sys.argv[1])\n\
        archive.extractall(sys.argv[3], numeric_owner=True)";
    let mut found = extracted("python3", &["-c", script]);
    let mut wanted = expected();
    for (name, wanted) in &mut wanted {
        let found = found.get_mut(name).unwrap();
        // tarfile restores no attributes at all, ACLs and capabilities included, and no times of links.
        wanted.xattrs.clear();
        if wanted.kind.starts_with("link") {
            found.mtime = wanted.mtime;
        }
        // tarfile computes times in floating point.
        assert_eq!(found.mtime.0, wanted.mtime.0);
        assert!((found.mtime.1 - wanted.mtime.1).abs() < 1000, "{found:?}");
        found.mtime = wanted.mtime;
    }
    assert_same(&wanted, &found);
}

/// Turns large writes into holes, so that a body of 8 GiB takes no time and no space.
struct Skipping(File);

impl Write for Skipping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < LARGE_PIECE {
            return self.0.write(bytes);
        }
        self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

const LARGE_PIECE: usize = 1 << 20;

#[test]
fn sizes_above_8_gib_and_device_numbers_above_21_bits_are_listed_right() {
    const SIZE: u64 = (8 << 30) + LARGE_PIECE as u64;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("large.tar");
    let mut writer = TarWriter::new(Skipping(File::create(&path).unwrap()));
    let zeros = vec![0; LARGE_PIECE];
    assert_eq!(writer.begin(&file("large", SIZE), &[(0, SIZE)]).unwrap(), Outcome::Written);
    while writer.missing() > 0 {
        writer.write_body(&zeros).unwrap();
    }
    writer.end_entry().unwrap();
    let device = entry("device", Kind::CharDevice(2_097_152, 2_147_483_647));
    assert_eq!(writer.begin(&device, &[]).unwrap(), Outcome::Written);
    writer.end_entry().unwrap();
    writer.finish().unwrap();

    let script = "import sys, tarfile\n\
        for m in tarfile.open(sys.argv[1]): print(m.name, m.size, m.devmajor, m.devminor)";
    let programs: [(&str, &[&str], &str); 3] = [
        ("tar", &["--numeric-owner", "-tvf"], "2097152,2147483647"),
        ("bsdtar", &["--numeric-owner", "-tvf"], "2097152,2147483647"),
        ("python3", &["-c", script], "2097152 2147483647"),
    ];
    for (program, arguments, device) in programs {
        if !oracle(program) {
            continue;
        }
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.push(path.as_os_str());
        let listing = String::from_utf8(run(program, &all).stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert!(lines[0].contains(&SIZE.to_string()), "{program}: {listing}");
        assert!(lines[1].contains(device), "{program}: {listing}");
        assert_eq!(lines.len(), 2, "{program}: {listing}");
    }
}
