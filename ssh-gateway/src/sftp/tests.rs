//! The server as clients meet it: by a driver with an encoder of its own, and by OpenSSH's `sftp`.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Says that this process is a server for an outside client, and not a test.
const SERVER_VARIABLE: &str = "SSH_GATEWAY_TEST_SFTP_HOME";

/// A client that encodes by hand.
struct Client {
    to: Option<PipeWriter>,
    from: PipeReader,
    server: Option<JoinHandle<Result<(), Ended>>>,
    directory: TempDir,
}

/// An answer: its kind, the request's number, and the rest.
type Answered = (u8, u32, Vec<u8>);

impl Client {
    fn new() -> Self {
        Self::with(Rights::All)
    }

    fn with(rights: Rights) -> Self {
        Self::telling(rights, Tally::silent())
    }

    fn telling(rights: Rights, tally: Tally) -> Self {
        let (input, to) = io::pipe().expect("a pipe");
        let (from, output) = io::pipe().expect("a pipe");
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path().to_owned();
        let server = thread::spawn(move || serve_between(&input, &output, &home, rights, tally));
        Self { to: Some(to), from, server: Some(server), directory }
    }

    fn greeted() -> Self {
        Self::greeted_with(Rights::All).0
    }

    /// And what the server announced.
    fn greeted_with(rights: Rights) -> (Self, Vec<u8>) {
        let mut client = Self::with(rights);
        client.send(&[&[1], 3u32.to_be_bytes().as_slice()].concat());
        let (kind, version, announced) = client.receive();
        assert_eq!((kind, version), (2, 3));
        (client, announced)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.as_mut().expect("an open end").write_all(bytes)
    }

    fn send(&mut self, packet: &[u8]) {
        let length = u32::try_from(packet.len()).expect("short").to_be_bytes();
        self.raw(&[length.as_slice(), packet].concat()).expect("sent");
    }

    fn try_receive(&mut self) -> Option<Answered> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).ok()?;
        let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("small")];
        assert!(packet.len() <= PACKET_BYTES_MAX);
        self.from.read_exact(&mut packet).expect("a whole packet");
        let (head, rest) = packet.split_at(5);
        let id = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
        Some((head[0], id, rest.to_vec()))
    }

    fn receive(&mut self) -> Answered {
        self.try_receive().expect("an answer")
    }

    fn ask(&mut self, request: Request) -> Answered {
        let Request(packet) = request;
        self.send(&packet);
        let answer = self.receive();
        assert_eq!(answer.1, ID);
        answer
    }

    /// Asks for something that ends in a status.
    fn status(&mut self, request: Request) -> u32 {
        let (kind, _, rest) = self.ask(request);
        assert_eq!(kind, 101, "{rest:?}");
        let mut fields = Fields(&rest);
        let code = fields.u32().expect("a code");
        assert!(!fields.string().expect("words").is_empty());
        assert_eq!(fields.string().expect("a language"), b"");
        code
    }

    fn handle(&mut self, request: Request) -> Vec<u8> {
        let (kind, _, rest) = self.ask(request);
        assert_eq!(kind, 102, "{rest:?}");
        Fields(&rest).string().expect("a handle").to_vec()
    }

    fn name(&mut self, request: Request) -> Vec<u8> {
        let (kind, _, rest) = self.ask(request);
        assert_eq!(kind, 104, "{rest:?}");
        let mut fields = Fields(&rest);
        assert_eq!(fields.u32().expect("a count"), 1);
        fields.string().expect("a name").to_vec()
    }

    fn open(&mut self, name: &str, flags: u32) -> Vec<u8> {
        let path = self.path(name);
        self.handle(Request::of(3).path(&path).u32(flags).u32(0))
    }

    fn end(mut self) -> Result<(), Ended> {
        drop(self.to.take());
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).expect("the end");
        self.server.take().expect("a server").join().expect("no panic")
    }
}

const ID: u32 = 0xfeed;
const OK: u32 = 0;
const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const DENIED: u32 = 3;
const FAILURE: u32 = 4;
const BAD_MESSAGE: u32 = 5;
const UNSUPPORTED: u32 = 8;

struct Request(Vec<u8>);

impl Request {
    fn of(kind: u8) -> Self {
        Self([&[kind], ID.to_be_bytes().as_slice()].concat())
    }
    fn extended(name: &str) -> Self {
        Self::of(200).string(name.as_bytes())
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn string(self, value: &[u8]) -> Self {
        let mut longer = self.u32(u32::try_from(value.len()).expect("short"));
        longer.0.extend(value);
        longer
    }
    fn path(self, path: &Path) -> Self {
        self.string(path.as_os_str().as_encoded_bytes())
    }
}

use chores_common::sftp::Fields;

#[test]
fn the_hello_names_every_extension() {
    let mut client = Client::new();
    client.send(&[1, 0, 0, 0, 6]);
    let (kind, version, rest) = client.receive();
    assert_eq!((kind, version), (2, 3));
    let mut fields = Fields(&rest);
    let mut names = Vec::new();
    while !fields.is_empty() {
        names.push(String::from_utf8(fields.string().expect("a name").to_vec()).expect("text"));
        fields.string().expect("a version");
    }
    assert_eq!(names.len(), 11, "{names:?}");
    assert!(names.contains(&"limits@openssh.com".to_owned()));
    client.end().expect("quietly");
}

#[test]
fn a_file_is_written_read_and_looked_at() {
    let mut client = Client::greeted();
    // Write, create, exclusively; mode 0600.
    let path = client.path("file");
    let create = Request::of(3).path(&path).u32(0x2a).u32(4).u32(0o100600);
    let handle = client.handle(create);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(3).string(b"hello")), OK);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(0).string(b"abc")), OK);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(9).string(b"")), OK);
    assert_eq!(client.status(Request::of(5).string(&handle).u64(0).u32(10)), NO_SUCH_FILE);
    assert_eq!(client.status(Request::extended("fsync@openssh.com").string(&handle)), OK);
    assert_eq!(client.status(Request::of(4).string(&handle)), OK);
    assert_eq!(client.status(Request::of(4).string(&handle)), FAILURE);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(0).string(b"x")), FAILURE);
    assert_eq!(fs::read(&path).expect("the file"), b"abchello");
    assert_eq!(fs::metadata(&path).expect("the file").mode() & 0o7777, 0o600);

    let again = Request::of(3).path(&path).u32(0x2a).u32(0);
    assert_eq!(client.status(again), FAILURE);

    let handle = client.open("file", 1);
    let (kind, _, data) = client.ask(Request::of(5).string(&handle).u64(3).u32(100));
    assert_eq!((kind, data.as_slice()), (103, b"\0\0\0\x05hello".as_slice()));
    let (kind, _, data) = client.ask(Request::of(5).string(&handle).u64(3).u32(0));
    assert_eq!((kind, data.as_slice()), (103, b"\0\0\0\0".as_slice()));
    assert_eq!(client.status(Request::of(5).string(&handle).u64(8).u32(100)), EOF);
    assert_eq!(client.status(Request::of(5).string(&handle).u64(u64::MAX).u32(1)), BAD_MESSAGE);

    let by_handle = client.ask(Request::of(8).string(&handle));
    let by_path = client.ask(Request::of(17).path(&path));
    assert_eq!(by_handle, by_path);
    let mut fields = Fields(&by_path.2);
    let metadata = fs::metadata(&path).expect("the file");
    assert_eq!(fields.u32().expect("flags"), 0xf);
    assert_eq!(fields.u64().expect("a size"), 8);
    assert_eq!(fields.u32().expect("a user"), metadata.uid());
    assert_eq!(fields.u32().expect("a group"), metadata.gid());
    assert_eq!(fields.u32().expect("a mode"), metadata.mode());
    assert_eq!(i64::from(fields.u32().expect("a time")), metadata.atime());
    assert_eq!(i64::from(fields.u32().expect("a time")), metadata.mtime());
    assert!(fields.is_empty());
    client.end().expect("quietly");
}

#[test]
fn open_flags_mean_what_they_say() {
    let mut client = Client::greeted();
    let path = client.path("file");
    fs::write(&path, "0123456789").expect("a file");
    // Append: the offset does not matter.
    let handle = client.open("file", 0x06);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(0).string(b"end")), OK);
    assert_eq!(fs::read(&path).expect("the file"), b"0123456789end");
    // Read and write, without truncation.
    let handle = client.open("file", 0x03);
    assert_eq!(client.status(Request::of(6).string(&handle).u64(1).string(b"--")), OK);
    assert_eq!(fs::read(&path).expect("the file"), b"0--3456789end");
    // Truncation.
    client.open("file", 0x12);
    assert_eq!(fs::read(&path).expect("the file"), b"");
    let missing = client.path("missing");
    assert_eq!(client.status(Request::of(3).path(&missing).u32(2).u32(0)), NO_SUCH_FILE);
    assert_eq!(client.status(Request::of(3).path(&missing.join("x")).u32(10).u32(0)), NO_SUCH_FILE);
    // A directory can be opened, not read.
    let root = client.directory.path().to_owned();
    let handle = client.handle(Request::of(3).path(&root).u32(1).u32(0));
    assert_eq!(client.status(Request::of(5).string(&handle).u64(0).u32(10)), FAILURE);
    client.end().expect("quietly");
}

#[test]
fn attributes_are_set_by_name_by_handle_and_on_links() {
    let mut client = Client::greeted();
    let path = client.path("file");
    let link = client.path("link");
    fs::write(&path, "0123456789").expect("a file");
    symlink("file", &link).expect("a link");
    // Size, permissions and times at once; after 2038.
    let set = Request::of(9).path(&link).u32(0xd).u64(4).u32(0o100640).u32(1).u32(4_000_000_000);
    assert_eq!(client.status(set), OK);
    let metadata = fs::metadata(&path).expect("the file");
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (4, 0o640));
    assert_eq!((metadata.atime(), metadata.mtime()), (1, 4_000_000_000));
    let handle = client.open("file", 2);
    let set = Request::of(10).string(&handle).u32(1).u64(2);
    assert_eq!(client.status(set), OK);
    assert_eq!(fs::metadata(&path).expect("the file").len(), 2);
    // The owner: -1 leaves it.
    let set = Request::of(10).string(&handle).u32(2).u32(u32::MAX).u32(u32::MAX);
    assert_eq!(client.status(set), OK);
    // Extended attributes are read over; too many are not.
    let set = Request::of(9).path(&path).u32(0x8000_0000).u32(1).string(b"a").string(b"b");
    assert_eq!(client.status(set), OK);
    let set = Request::of(9).path(&path).u32(0x8000_0000).u32(u32::MAX);
    assert_eq!(client.status(set), BAD_MESSAGE);

    let times = Request::extended("lsetstat@openssh.com").path(&link).u32(8).u32(5).u32(6);
    assert_eq!(client.status(times), OK);
    assert_eq!(fs::symlink_metadata(&link).expect("the link").mtime(), 6);
    assert_eq!(fs::metadata(&path).expect("the file").len(), 2);
    let mode = Request::extended("lsetstat@openssh.com").path(&link).u32(4).u32(0o600);
    assert_eq!(client.status(mode), FAILURE);
    let mode = Request::extended("lsetstat@openssh.com").path(&path).u32(4).u32(0o604);
    assert_eq!(client.status(mode), OK);
    assert_eq!(fs::metadata(&path).expect("the file").mode() & 0o7777, 0o604);
    let size = Request::extended("lsetstat@openssh.com").path(&path).u32(1).u64(0);
    assert_eq!(client.status(size), BAD_MESSAGE);

    // A named pipe without a reader holds nobody up.
    let pipe = client.path("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a pipe");
    assert_eq!(client.status(Request::of(9).path(&pipe).u32(1).u64(0)), FAILURE);
    client.end().expect("quietly");
}

#[test]
fn directories() {
    let mut client = Client::greeted();
    let directory = client.path("d");
    assert_eq!(client.status(Request::of(14).path(&directory).u32(4).u32(0o40750)), OK);
    assert_eq!(fs::metadata(&directory).expect("it").mode() & 0o7777, 0o750);
    assert_eq!(client.status(Request::of(14).path(&directory).u32(0)), FAILURE);
    for number in 0..250 {
        fs::write(directory.join(format!("file {number}")), "x").expect("a file");
    }
    symlink("nowhere", directory.join("dangling")).expect("a link");
    let _socket = UnixListener::bind(directory.join("socket")).expect("a socket");
    let handle = client.handle(Request::of(11).path(&directory));
    assert_eq!(client.status(Request::of(5).string(&handle).u64(0).u32(1)), FAILURE);
    let (kind, ..) = client.ask(Request::of(8).string(&handle));
    assert_eq!(kind, 105);
    let mut names = Vec::new();
    let mut batches = 0;
    loop {
        let (kind, _, rest) = client.ask(Request::of(12).string(&handle));
        if kind == 101 {
            assert_eq!(Fields(&rest).u32().expect("a code"), EOF);
            break;
        }
        batches += 1;
        let mut fields = Fields(&rest);
        for _ in 0..fields.u32().expect("a count") {
            let name = String::from_utf8(fields.string().expect("a name").to_vec()).expect("text");
            let line = String::from_utf8(fields.string().expect("a line").to_vec()).expect("text");
            assert!(line.ends_with(&format!(" {name}")), "{line}");
            assert_eq!(line.chars().next(), Some(kind_of(&directory.join(&name))), "{line}");
            assert_eq!(fields.u32().expect("flags"), 0xf);
            fields.u64().expect("a size");
            for _ in 0..5 {
                fields.u32().expect("a field");
            }
            names.push(name);
        }
        assert!(fields.is_empty());
    }
    assert_eq!(batches, 3);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 254);
    assert_eq!(client.status(Request::of(4).string(&handle)), OK);
    assert_eq!(client.status(Request::of(12).string(&handle)), FAILURE);

    assert_eq!(client.status(Request::of(15).path(&directory)), FAILURE);
    assert_eq!(client.status(Request::of(13).path(&directory)), FAILURE);
    // The longest names there are.
    let long = "\u{e9}".repeat(127);
    for number in 0..9 {
        fs::write(directory.join(format!("{long}{number}")), "x").expect("a file");
    }
    let handle = client.handle(Request::of(11).path(&directory));
    let (kind, _, rest) = client.ask(Request::of(12).string(&handle));
    assert_eq!((kind, &rest[..4]), (104, 100u32.to_be_bytes().as_slice()));
    fs::remove_dir_all(&directory).expect("removed");
    assert_eq!(client.status(Request::of(11).path(&directory)), NO_SUCH_FILE);
    fs::create_dir(&directory).expect("a directory");
    assert_eq!(client.status(Request::of(15).path(&directory)), OK);
    let file = client.path("file");
    fs::write(&file, "").expect("a file");
    assert_eq!(client.status(Request::of(11).path(&file)), NO_SUCH_FILE);
    assert_eq!(client.status(Request::of(12).string(b"12345678")), FAILURE);
    assert_eq!(client.status(Request::of(13).path(&file)), OK);
    assert!(!file.exists());
    client.end().expect("quietly");
}

fn kind_of(path: &Path) -> char {
    let kind = fs::symlink_metadata(path).expect("it").file_type();
    match kind {
        _ if kind.is_dir() => 'd',
        _ if kind.is_symlink() => 'l',
        _ if kind.is_socket() => 's',
        _ => '-',
    }
}

#[test]
fn names_are_changed_linked_and_resolved() {
    let mut client = Client::greeted();
    let (one, two, three) = (client.path("one"), client.path("two"), client.path("three"));
    fs::write(&one, "1").expect("a file");
    fs::write(&two, "2").expect("a file");
    assert_eq!(client.status(Request::of(18).path(&one).path(&two)), FAILURE);
    assert_eq!(client.status(Request::of(18).path(&one).path(&three)), OK);
    assert_eq!(client.status(Request::of(18).path(&one).path(&three)), NO_SUCH_FILE);
    let posix = Request::extended("posix-rename@openssh.com").path(&three).path(&two);
    assert_eq!(client.status(posix), OK);
    assert_eq!(fs::read(&two).expect("the file"), b"1");
    let hard = Request::extended("hardlink@openssh.com").path(&two).path(&one);
    assert_eq!(client.status(hard), OK);
    assert_eq!(fs::metadata(&one).expect("the file").nlink(), 2);
    // The target comes first.
    assert_eq!(client.status(Request::of(20).string(b"over there").path(&three)), OK);
    assert_eq!(fs::read_link(&three).expect("the link"), Path::new("over there"));
    assert_eq!(client.name(Request::of(19).path(&three)), b"over there");
    assert_eq!(client.status(Request::of(19).path(&two)), BAD_MESSAGE);
    let (kind, _, rest) = client.ask(Request::of(7).path(&three));
    assert_eq!((kind, &rest[..4]), (105, [0, 0, 0, 0xf].as_slice()));
    assert_eq!(client.status(Request::of(17).path(&three)), NO_SUCH_FILE);

    let root = fs::canonicalize(client.directory.path()).expect("a path");
    let around = Request::of(16).path(&root.join("missing/../one"));
    assert_eq!(client.status(around), NO_SUCH_FILE);
    assert_eq!(
        client.name(Request::of(16).path(&root.join(".//one"))),
        root.join("one").as_os_str().as_encoded_bytes()
    );
    assert_eq!(
        client.name(Request::of(16).path(&root.join("not there"))),
        root.join("not there").as_os_str().as_encoded_bytes()
    );
    let deep = Request::of(16).path(&root.join("not there/deeper"));
    assert_eq!(client.status(deep), NO_SUCH_FILE);
    client.end().expect("quietly");
}

#[test]
fn the_rest_of_the_extensions() {
    let mut client = Client::greeted();
    let (kind, _, rest) = client.ask(Request::extended("limits@openssh.com"));
    assert_eq!(kind, 201);
    let mut fields = Fields(&rest);
    let limits: Vec<_> = (0..4).map(|_| fields.u64().expect("a limit")).collect();
    assert_eq!(limits[..3], [262_144, 261_120, 261_120]);
    assert!((1..=1000).contains(&limits[3]));

    let root = client.directory.path().to_owned();
    let (kind, _, rest) = client.ask(Request::extended("statvfs@openssh.com").path(&root));
    assert_eq!((kind, rest.len()), (201, 88));
    fs::write(client.path("file"), "x").expect("a file");
    let handle = client.open("file", 1);
    let (kind, _, rest) = client.ask(Request::extended("fstatvfs@openssh.com").string(&handle));
    assert_eq!((kind, rest.len()), (201, 88));

    let real = fs::canonicalize(&root).expect("a path");
    let real = real.as_os_str().as_encoded_bytes();
    let expand = |path: &str| Request::extended("expand-path@openssh.com").string(path.as_bytes());
    assert_eq!(client.name(expand("~")), real);
    assert_eq!(client.name(expand("~/")), real);
    assert_eq!(client.name(expand("~/x")), [real, b"/x"].concat());
    assert_eq!(client.name(expand("/")), b"/");
    assert_eq!(client.status(expand("~no such user/")), NO_SUCH_FILE);
    let home = root.as_os_str().as_encoded_bytes();
    assert_eq!(client.name(Request::extended("home-directory").string(b"")), home);
    assert_eq!(client.status(Request::extended("home-directory").string(b"no such")), FAILURE);

    let ids = [0u32.to_be_bytes(), 4_000_000_001u32.to_be_bytes()].concat();
    let ask = Request::extended("users-groups-by-id@openssh.com").string(&ids).string(b"");
    let (kind, _, rest) = client.ask(ask);
    assert_eq!(kind, 201);
    let mut fields = Fields(&rest);
    let mut users = Fields(fields.string().expect("users"));
    assert_eq!(users.string().expect("a name"), b"root");
    assert_eq!(users.string().expect("a name"), b"");
    assert!(users.is_empty());
    assert_eq!(fields.string().expect("groups"), b"");
    let ask = Request::extended("users-groups-by-id@openssh.com").string(b"12345").string(b"");
    assert_eq!(client.status(ask), BAD_MESSAGE);
    let many = vec![0xff; 200_000];
    let ask = Request::extended("users-groups-by-id@openssh.com").string(&many).string(b"");
    assert_eq!(client.ask(ask).0, 201);

    assert_eq!(client.status(Request::extended("no-such@example.com")), UNSUPPORTED);
    assert_eq!(client.status(Request::of(200)), BAD_MESSAGE);
    assert_eq!(client.status(Request::of(99)), UNSUPPORTED);
    client.end().expect("quietly");
}

#[test]
fn data_is_copied_on_the_spot() {
    let mut client = Client::greeted();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let source = client.path("source");
    fs::write(&source, &content).expect("a file");
    let from = client.open("source", 1);
    let to = client.open("target", 0x0a);
    let copy = |from: &[u8], at: u64, length: u64, to: &[u8], onto: u64| {
        Request::extended("copy-data").string(from).u64(at).u64(length).string(to).u64(onto)
    };
    assert_eq!(client.status(copy(&from, 0, 0, &to, 0)), OK);
    assert!(fs::read(client.path("target")).expect("the file") == content);
    assert_eq!(client.status(copy(&from, 5, 10, &to, 3_000_000)), OK);
    let copied = fs::read(client.path("target")).expect("the file");
    assert_eq!(copied[3_000_000..], content[5..15]);
    // More than there is.
    assert_eq!(client.status(copy(&from, 2_999_999, 10, &to, 0)), EOF);
    // Into itself, by whatever name.
    fs::hard_link(&source, client.path("same")).expect("a link");
    let same = client.open("same", 2);
    assert_eq!(client.status(copy(&from, 0, 0, &same, 0)), FAILURE);
    // Appending, and from a file without a size: the kernel's own copying does neither.
    let append = client.open("appended", 0x0e);
    assert_eq!(client.status(copy(&from, 0, 0, &append, 0)), OK);
    assert!(fs::read(client.path("appended")).expect("the file") == content);
    let proc = client.handle(Request::of(3).string(b"/proc/self/mounts").u32(1).u32(0));
    let mounts = client.open("mounts", 0x0a);
    assert_eq!(client.status(copy(&proc, 0, 0, &mounts, 0)), OK);
    assert!(fs::metadata(client.path("mounts")).expect("the file").len() > 0);
    assert_eq!(client.status(copy(b"none", 0, 0, &to, 0)), FAILURE);
    client.end().expect("quietly");
}

#[test]
fn nonsense_is_answered_and_the_conversation_goes_on() {
    let mut client = Client::greeted();
    let long = vec![b'a'; 4096];
    for kind in [7, 9, 11, 13, 14, 15, 16, 17, 19] {
        assert_eq!(client.status(Request::of(kind).string(&long)), BAD_MESSAGE, "{kind}");
        assert_eq!(client.status(Request::of(kind).string(b"a\0b")), BAD_MESSAGE, "{kind}");
        assert_eq!(client.status(Request::of(kind).u32(u32::MAX)), BAD_MESSAGE, "{kind}");
        assert_eq!(client.status(Request::of(kind).u32(5)), BAD_MESSAGE, "{kind}");
    }
    for kind in 3..=20 {
        assert_eq!(client.status(Request::of(kind)), BAD_MESSAGE, "{kind}");
    }
    for handle in [b"".as_slice(), b"1", b"1234567", &[0xff; 8], &[0; 256]] {
        assert_eq!(client.status(Request::of(4).string(handle)), FAILURE);
        assert_eq!(client.status(Request::of(5).string(handle).u64(0).u32(1)), FAILURE);
        assert_eq!(client.status(Request::of(8).string(handle)), FAILURE);
    }
    let path = "/".repeat(4095);
    assert_eq!(client.name(Request::of(16).string(path.as_bytes())), b"/");
    client.end().expect("quietly");
}

#[test]
fn a_stream_that_is_not_sftp_ends() {
    for bytes in [
        b"\0\0\0\0".as_slice(),
        b"\0\x04\0\x01",
        b"\xff\xff\xff\xff",
        b"SSH-2.0-x\r\n",
        b"\0\0\0\x01\x01",
        b"\0\0\0\x05\x04\0\0\0\x01",
        b"\0\0\0\x05\x01\0\0\0\x03\0\0\0\x02\x04\0",
    ] {
        let mut client = Client::new();
        client.raw(bytes).expect("sent");
        let ended = client.end();
        assert!(matches!(ended, Err(Ended::Wrong(_))), "{bytes:?}: {ended:?}");
    }
    // Cut off in the midst of a packet: the client is simply gone.
    for bytes in [b"".as_slice(), b"\0\0", b"\0\0\0\x05\x01\0\0", b"\0\x01\0\0\x01"] {
        let mut client = Client::new();
        client.raw(bytes).expect("sent");
        client.end().expect("quietly");
    }
}

#[test]
fn there_is_an_end_to_handles() {
    let mut client = Client::greeted();
    fs::write(client.path("file"), "x").expect("a file");
    let path = client.path("file");
    let mut last = Vec::new();
    let mut count = 0;
    loop {
        let (kind, _, rest) = client.ask(Request::of(3).path(&path).u32(1).u32(0));
        if kind != 102 {
            break;
        }
        count += 1;
        assert!(count <= 1000);
        last = Fields(&rest).string().expect("a handle").to_vec();
    }
    // What is refused is not created either.
    let new = client.path("new");
    assert_eq!(client.status(Request::of(3).path(&new).u32(0x0a).u32(0)), FAILURE);
    assert!(!new.exists());
    assert_eq!(client.status(Request::of(4).string(&last)), OK);
    let other = client.open("file", 1);
    assert_ne!(other, last);
    client.end().expect("quietly");
}

#[test]
fn many_reads_at_once_come_back_in_order() {
    let mut client = Client::greeted();
    let content: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(client.path("file"), &content).expect("a file");
    let handle = client.open("file", 1);
    let step = 261_120;
    for number in 0..64u32 {
        let read = [&[5], number.to_be_bytes().as_slice()].concat();
        let read = Request(read).string(&handle).u64(u64::from(number) * step).u32(300_000);
        client.send(&read.0);
    }
    let mut read = Vec::new();
    for number in 0..64 {
        let (kind, id, rest) = client.receive();
        assert_eq!(id, number);
        match kind {
            103 => read.extend_from_slice(&rest[4..]),
            _ => assert_eq!((kind, &rest[..4]), (101, [0, 0, 0, 1].as_slice())),
        }
    }
    assert!(read == content);
    client.end().expect("quietly");
}

#[test]
fn a_client_may_write_for_long_before_it_listens() {
    let mut client = Client::greeted();
    let handle = client.open("file", 0x0a);
    let count = 5_000u32;
    for number in 0..count {
        let write = [&[6], number.to_be_bytes().as_slice()].concat();
        let write = Request(write).string(&handle).u64(u64::from(number) * 4).string(b"data");
        client.send(&write.0);
    }
    for number in 0..count {
        let (kind, id, rest) = client.receive();
        assert_eq!((kind, id, &rest[..4]), (101, number, [0, 0, 0, 0].as_slice()));
    }
    assert_eq!(fs::metadata(client.path("file")).expect("the file").len(), u64::from(count) * 4);
    client.end().expect("quietly");
}

#[test]
fn a_read_only_server_reads_and_changes_nothing() {
    let (mut client, announced) = Client::greeted_with(Rights::ReadOnly);
    let announced = String::from_utf8_lossy(&announced).into_owned();
    assert!(announced.contains("limits@openssh.com"), "{announced}");
    assert!(!announced.contains("posix-rename"), "{announced}");
    let (old, new) = (client.path("old"), client.path("new"));
    fs::write(&old, "kept").expect("a file");
    let read = client.open("old", 0x01);
    let (kind, _, rest) = client.ask(Request::of(5).string(&read).u64(0).u32(100));
    assert_eq!((kind, Fields(&rest).string().expect("data")), (103, b"kept".as_slice()));
    for flags in [0x02, 0x03, 0x05, 0x09, 0x11, 0x1a] {
        for path in [&old, &new] {
            let open = Request::of(3).path(path).u32(flags).u32(0);
            assert_eq!(client.status(open), DENIED, "flags {flags:#x}");
        }
    }
    for request in [
        Request::of(6).string(&read).u64(0).string(b"x"),
        Request::of(9).path(&old).u32(4).u32(0o600),
        Request::of(10).string(&read).u32(4).u32(0o600),
        Request::of(13).path(&old),
        Request::of(14).path(&new).u32(0),
        Request::of(15).path(&old),
        Request::of(18).path(&old).path(&new),
        Request::of(20).path(&old).path(&new),
        Request::extended("posix-rename@openssh.com").path(&old).path(&new),
        Request::extended("hardlink@openssh.com").path(&old).path(&new),
        Request::extended("lsetstat@openssh.com").path(&old).u32(4).u32(0o600),
        Request::extended("copy-data").string(&read).u64(0).u64(0).string(&read).u64(0),
    ] {
        assert_eq!(client.status(request), DENIED);
    }
    let left: Vec<_> = fs::read_dir(client.directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_to_string(&old).expect("a file"), "kept");
    client.end().expect("in peace");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the packets are: an answer to each, no panic, and never more memory than the bounds.
    #[test]
    fn any_packet_is_answered(packets in proptest::collection::vec(packet(), 1..30)) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Server::new(directory.path(), Rights::All, Tally::silent());
        let mut answers = Buffer::new(OUTPUT_BYTES_MAX);
        server.answer(&[1, 0, 0, 0, 3], &mut answers).expect("a hello");
        for packet in packets {
            answers.consume(usize::MAX);
            prop_assert!(server.answer(&packet, &mut answers).is_ok());
            let length = u32::from_be_bytes(*answers.filled().first_chunk().expect("a length"));
            prop_assert_eq!(usize::try_from(length).expect("small") + 4, answers.len());
            prop_assert!(answers.len() <= PACKET_BYTES_MAX + LENGTH_BYTES);
        }
    }

    /// However the stream is cut: it ends by itself.
    #[test]
    fn any_stream_comes_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut client = Client::greeted();
        // A server that has given up reads no more.
        let _sent = client.raw(&bytes);
        let ended = client.end();
        prop_assert!(matches!(ended, Ok(()) | Err(Ended::Wrong(_))), "{:?}", ended);
    }
}

/// A packet that is nearly right, with names that mean nothing in the current directory. Kinds that could change it, or
/// the directory `/` by a handle of it (FSETSTAT), are left to the tests above: this is a real file system.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(4u8),
        Just(5),
        Just(6),
        Just(7),
        Just(8),
        Just(11),
        Just(12),
        Just(16),
        Just(17),
        Just(19),
        Just(200),
        21u8..=199,
        201u8..
    ];
    let field = prop_oneof![
        any::<u32>().prop_map(|value| value.to_be_bytes().to_vec()),
        any::<u64>().prop_map(|value| value.to_be_bytes().to_vec()),
        (0u64..3).prop_map(|handle| [&[0, 0, 0, 8], handle.to_be_bytes().as_slice()].concat()),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
            [length.as_slice(), &bytes].concat()
        }),
        Just([&[0, 0, 0, 1], b"/".as_slice()].concat()),
        Just([&[0, 0, 0, 9], b"copy-data".as_slice()].concat()),
        Just([&[0, 0, 0, 18], b"limits@openssh.com".as_slice()].concat()),
        Just([&[0, 0, 0, 23], b"expand-path@openssh.com".as_slice()].concat()),
        Just([&[0, 0, 0, 30], b"users-groups-by-id@openssh.com".as_slice()].concat()),
    ];
    (kind, any::<[u8; 4]>(), proptest::collection::vec(field, 0..5))
        .prop_map(|(kind, id, fields)| [&[kind], id.as_slice(), &fields.concat()].concat())
}

/// Not a test: this binary started again as the program that `sftp -D` talks to. Standard output belongs to
/// the test harness, so standard error is the way out.
#[test]
fn a_server_for_an_outside_client() {
    if let Some(home) = std::env::var_os(SERVER_VARIABLE) {
        let home = PathBuf::from(home);
        rustix::process::chdir(&home).expect("a home directory");
        serve_between(&io::stdin(), &io::stderr(), &home, Rights::All, Tally::silent())
            .expect("quietly");
    }
}

/// Runs commands of OpenSSH's `sftp` against our server.
fn openssh(home: &Path, commands: &str) -> String {
    let program = std::env::current_exe().expect("this program");
    let script = home.with_extension("server");
    let name = "sftp::tests::a_server_for_an_outside_client";
    let text = format!(
        "#!/bin/sh\n{SERVER_VARIABLE}='{}' exec '{}' --exact {name} --nocapture 2>&1 >/dev/null\n",
        home.display(),
        program.display(),
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a script");
    let batch = home.with_extension("batch");
    fs::write(&batch, commands).expect("a batch");
    let output = Command::new("sftp")
        .arg("-b")
        .arg(&batch)
        .arg("-D")
        .arg(format!("/bin/sh {}", script.display()))
        .output()
        .expect("sftp of openssh-client");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    text
}

fn has_openssh() -> bool {
    let there = Command::new("sftp").arg("-?").output().is_ok();
    if !there {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "sftp of openssh-client is missing, and CHORES_REQUIRE_ENGINE is set"
        );
        println!("skipped: there is no sftp of openssh-client on this machine");
    }
    there
}

#[test]
fn openssh_puts_gets_lists_and_changes() {
    if !has_openssh() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    let local = directory.path().join("local");
    fs::create_dir(&home).expect("a directory");
    fs::create_dir_all(local.join("tree/deep er")).expect("a directory");
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    fs::write(local.join("big"), &content).expect("a file");
    fs::write(local.join("part"), &content[..1_234_567]).expect("a file");
    fs::write(local.join("tree/deep er/file"), "deep").expect("a file");
    fs::write(local.join("tree/empty"), "").expect("a file");
    fs::set_permissions(local.join("big"), fs::Permissions::from_mode(0o640)).expect("a mode");
    let at = local.display();
    let text = openssh(
        &home,
        &format!(
            "pwd\nput -p {at}/big\nput -f {at}/big two\nput -r {at}/tree\nls -la\nls -lan\nls -1 tree\n\
             rename two three\nln three hard\nln -s three soft\nchmod 600 three\n\
             mkdir dir\nrmdir dir\ndf -h\ncp three four\nget -p big {at}/back\n\
             get -r tree {at}/tree-back\nput {at}/part resumed\nreput {at}/big resumed\nget resumed {at}/part\n\
             reget big {at}/back\n\
             -rm missing\ncd tree\npwd\n!true\n"
        ),
    );
    assert!(text.contains(&format!("directory: {}", home.display())), "{text}");
    assert!(text.contains("root"), "{text}");
    for name in ["big", "three", "hard", "soft", "four", "resumed"] {
        assert!(fs::read(home.join(name)).expect(name) == content, "{name}");
    }
    let meta = fs::metadata(home.join("big")).expect("the file");
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert_eq!(meta.mtime(), fs::metadata(local.join("big")).expect("the file").mtime());
    assert_eq!(fs::metadata(home.join("hard")).expect("the file").mode() & 0o7777, 0o600);
    assert_eq!(fs::read_link(home.join("soft")).expect("the link"), Path::new("three"));
    assert_eq!(fs::read(local.join("tree-back/deep er/file")).expect("the file"), b"deep");
    assert_eq!(fs::read(local.join("tree-back/empty")).expect("the file"), b"");
    assert!(fs::read(local.join("back")).expect("the file") == content);
    assert!(fs::read(local.join("part")).expect("the file") == content);
    assert!(!home.join("dir").exists());
}

#[test]
fn what_is_done_to_files_is_told_before_it_is_answered_and_looks_are_not() {
    use crate::wire::files::{Act, Report};
    use crate::wire::socket::Socket;

    let (ours, theirs) = Socket::pair().expect("a pair");
    let mut client = Client::telling(Rights::All, Tally::new(theirs.into_descriptor()));
    client.send(&[&[1], 3u32.to_be_bytes().as_slice()].concat());
    client.receive();
    let next = || match ours.receive::<Report>().expect("a message") {
        Some((report, _)) => report,
        None => panic!("no report"),
    };
    let file = client.path("file");
    let path =
        |name: &str| client.directory.path().join(name).into_os_string().into_encoded_bytes();
    let (one, two, sub) = (path("file"), path("two"), path("sub"));
    client.status(Request::of(17).path(&file));
    let handle = client.open("file", 0x1a);
    assert_eq!(next(), Report::Opened { number: 0, path: one.clone(), flags: 0x1a });
    client.status(Request::of(6).string(&handle).u64(0).string(b"content"));
    client.status(Request::of(10).string(&handle).u32(4).u32(0o600));
    client.status(Request::of(4).string(&handle));
    let Report::Closed(closed) = next() else { panic!("not closed") };
    let hash = <sha2::Sha256 as sha2::Digest>::digest(b"content");
    assert_eq!((closed.written.bytes, closed.written.sha256), (7, Some(hash.into())));
    assert_eq!((closed.set.mode, closed.fault), (Some(0o600), None));
    client.status(Request::of(18).string(&one).string(&two));
    let renamed = Act::Rename { path: one, to: two.clone() };
    assert_eq!(next(), Report::Done { act: renamed, failed: None });
    client.status(Request::of(14).string(&sub).u32(0));
    client.status(Request::of(13).string(&sub));
    assert!(matches!(next(), Report::Done { act: Act::MakeDirectory { .. }, failed: None }));
    assert!(matches!(next(), Report::Done { act: Act::Remove { .. }, failed: Some(_) }));
    // Read in the wrong order, and left open.
    let handle = client.open("two", 1);
    client.ask(Request::of(5).string(&handle).u64(4).u32(3));
    client.end().expect("in peace");
    assert!(matches!(next(), Report::Opened { number: 1, .. }));
    let Report::Closed(closed) = next() else { panic!("not closed") };
    assert_eq!((closed.read.bytes, closed.read.sha256), (3, None));
    assert_eq!(closed.fault.as_deref(), Some("its client did not close it"));
    assert_eq!(next(), Report::End);
}

#[test]
fn nothing_more_is_done_when_it_cannot_be_told() {
    use crate::wire::socket::Socket;

    let (ours, theirs) = Socket::pair().expect("a pair");
    let mut client = Client::telling(Rights::All, Tally::new(theirs.into_descriptor()));
    client.send(&[&[1], 3u32.to_be_bytes().as_slice()].concat());
    client.receive();
    drop(ours);
    let Request(packet) = Request::of(14).path(&client.path("one")).u32(0);
    client.send(&packet);
    assert!(client.try_receive().is_none(), "it was answered");
    assert!(matches!(client.end(), Err(Ended::Untold)));
}
