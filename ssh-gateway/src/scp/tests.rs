//! Both sides as clients meet them: by hand, and by OpenSSH's `scp` with a program of ours instead of ssh.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

/// The command line of a remote scp, when this process is one and not a test.
const COMMAND_VARIABLE: &str = "SSH_GATEWAY_TEST_SCP";

#[test]
fn only_the_remote_side_of_scp_is_understood() {
    for command in ["scp -t .", "scp -f -p a* 'b c'", "/usr/bin/scp -r -t -- -x"] {
        assert!(understands(command.as_bytes()), "{command}");
        assert!(words(command.as_bytes()).is_some(), "{command}");
    }
    for command in ["", "scp", "scp a b:", "scp -t a; id", "rsync --server", "sh -c 'scp -t .'"] {
        assert!(!understands(command.as_bytes()), "{command}");
        assert_eq!(words(command.as_bytes()), None, "{command}");
    }
}

/// What our side says to all of `input`, and its exit status.
fn talk(arguments: &[&[u8]], input: &[u8]) -> (Vec<u8>, u8) {
    talk_telling(arguments, input, Tally::silent())
}

fn talk_telling(arguments: &[&[u8]], input: &[u8], tally: Tally) -> (Vec<u8>, u8) {
    let (ours, mut theirs_in) = io::pipe().expect("a pipe");
    let (mut theirs_out, out) = io::pipe().expect("a pipe");
    let arguments: Vec<_> = arguments.iter().map(|word| word.to_vec()).collect();
    let input = input.to_vec();
    let server = thread::spawn(move || {
        let mut peer = Peer::new(&ours, &out, tally);
        let status = serve(&arguments, Mode::from_raw_mode(0o022), &mut peer);
        peer.tally.end();
        status
    });
    let writer = thread::spawn(move || {
        // A server that has ended reads no more.
        let _sent = theirs_in.write_all(&input);
    });
    let mut said = Vec::new();
    theirs_out.read_to_end(&mut said).expect("the end");
    writer.join().expect("no panic");
    (said, server.join().expect("no panic"))
}

fn sink(flags: &str, target: &Path, input: &[u8]) -> (Vec<u8>, u8) {
    talk(&[b"scp", flags.as_bytes(), target.as_os_str().as_bytes()], input)
}

#[test]
fn files_are_received_into_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let input = b"C0666 5 one\nhello\0T7 0 5 0\nC0444 0 two\n\0";
    assert_eq!(sink("-t", root, input), (b"\0\0\0\0\0\0".to_vec(), 0));
    assert_eq!(fs::read(root.join("one")).expect("the file"), b"hello");
    assert_eq!(fs::metadata(root.join("two")).expect("the file").mode() & 0o7777, 0o444);
    assert_eq!(fs::metadata(root.join("two")).expect("the file").mtime(), 7);
    // A longer file becomes as long as the new one, and keeps being one.
    let (said, exit) = sink("-pt", &root.join("one"), b"C4711 2 other name\nhi\0");
    assert_eq!((said.as_slice(), exit), (b"\0\0\0".as_slice(), 0));
    assert_eq!(fs::read(root.join("one")).expect("the file"), b"hi");
    assert_eq!(fs::metadata(root.join("one")).expect("the file").mode() & 0o7777, 0o4711);
}

#[test]
fn trees_are_received() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let input = b"T9 0 9 0\nD0555 0 d\nC0600 1 f\nx\0D0700 0 e\nE\nE\nE\n";
    assert_eq!(sink("-rt", root, input), (vec![0; 9], 0));
    let meta = fs::metadata(root.join("d")).expect("the directory");
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o555, 9));
    assert!(root.join("d/e").is_dir());
    assert_eq!(fs::read(root.join("d/f")).expect("the file"), b"x");
    // Into what is not there: the target is the new name.
    let new = root.join("new");
    assert_eq!(sink("-rt", &new, b"D0755 0 d\nC0600 1 f\nx\0E\n"), (vec![0; 5], 0));
    assert_eq!(fs::read(new.join("f")).expect("the file"), b"x");
}

#[test]
fn a_hostile_source_gets_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("target");
    fs::create_dir(&root).expect("a directory");
    let deep = "D0755 0 d\n".repeat(DEPTH_MAX + 1);
    let long = format!("C0644 1 {}\n", "a".repeat(10_000));
    for input in [
        "C0644 1 ../out\nx\0",
        "C0644 1 /tmp/out\nx\0",
        "D0755 0 ..\nC0644 1 out\nx\0",
        "C0644 1 a\x1b[2J\nx\0",
        "X\n",
        "\n",
        "C0644\n",
        deep.as_str(),
        long.as_str(),
    ] {
        let (said, exit) = sink("-rt", &root, input.as_bytes());
        assert_eq!(exit, 1, "{input}");
        let last = said.iter().rposition(|byte| *byte == 2).expect("a last word");
        assert!(said[last..].starts_with(b"\x02scp: "), "{input}");
        assert!(said.ends_with(b"\n"));
    }
    let (said, exit) = sink("-t", &root, b"D0755 0 d\n");
    assert_eq!(
        (said.as_slice(), exit),
        (b"\0\x02scp: protocol error: received directory without -r\n".as_slice(), 1)
    );
    assert_eq!(fs::read_dir(directory.path()).expect("a listing").count(), 1);
    // Cut off, or told of an error.
    for input in ["", "C0644", "C0644 5 f\nhi", "\x02sorry\n", "\x01sorry\n"] {
        let (_, exit) = sink("-t", &root, input.as_bytes());
        assert_eq!(exit, u8::from(!input.is_empty()), "{input:?}");
    }
}

#[test]
fn what_cannot_be_written_is_told_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    fs::create_dir(root.join("taken")).expect("a directory");
    fs::write(root.join("file"), "x").expect("a file");
    let (said, exit) = sink("-rt", root, b"C0644 1 taken\nC0644 1 good\nx\0D0755 0 file\n");
    let expected: &[u8] = b"\0\x01scp: taken: Is a directory\n\0\0\x01scp: file: Not a directory\n";
    assert_eq!((said.as_slice(), exit), (expected, 1), "{}", String::from_utf8_lossy(&said));
    assert_eq!(fs::read(root.join("good")).expect("the file"), b"x");
    let (said, exit) = sink("-dt", &root.join("file"), b"");
    assert_eq!((said[0], exit), (2, 1));
    let (said, _) = talk(&[b"scp", b"-t"], b"");
    assert_eq!(said, b"\x02scp: scp -t needs one target\n");
    let (said, _) = talk(&[b"ls"], b"");
    assert_eq!(said[0], 2);
    // A full disk: all of it is taken, then it is told.
    let input = [b"C0644 300000 full\n".as_slice(), &vec![b'x'; 300_000], b"\0"].concat();
    let full = Path::new("/dev/full");
    assert_eq!(
        sink("-t", full, &input),
        (b"\0\0\x01scp: /dev/full: No space left on device\n".to_vec(), 1)
    );
}

#[test]
fn files_are_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    fs::write(root.join("file"), "hello").expect("a file");
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o640)).expect("a mode");
    let path = |name: &str| root.join(name).as_os_str().as_bytes().to_vec();
    let (said, exit) = talk(&[b"scp", b"-f", &path("file")], b"\0\0\0");
    assert_eq!((said.as_slice(), exit), (b"C0640 5 file\nhello\0".as_slice(), 0));
    // Refused before the bytes.
    let (said, exit) = talk(&[b"scp", b"-f", &path("file")], b"\0\x01no\n");
    assert_eq!((said.as_slice(), exit), (b"C0640 5 file\n".as_slice(), 1));
    let (said, exit) = talk(&[b"scp", b"-f", &path("file")], b"\0\x02no\n");
    assert_eq!((said.as_slice(), exit), (b"C0640 5 file\n".as_slice(), 1));
    let (said, exit) = talk(&[b"scp", b"-f", &path("a\nb")], b"\0\0");
    assert_eq!(exit, 1);
    assert!(said.ends_with(b"a?b: No such file or directory\n"), "{said:?}");
    let (said, exit) = talk(&[b"scp", b"-f", &path("")], b"\0");
    assert!(said.ends_with(b": not a regular file\n") && exit == 1, "{said:?}");
    // A link to a directory above it.
    fs::create_dir(root.join("d")).expect("a directory");
    symlink("..", root.join("d/up")).expect("a link");
    let (said, exit) = talk(&[b"scp", b"-rf", &path("d")], &[0; 20]);
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("d: a directory that contains itself"), "{text}");
    assert_eq!(exit, 1);
}

/// Not a test: this binary started again as the remote scp.
#[test]
fn an_scp_for_an_outside_client() {
    let Some(command) = std::env::var_os(COMMAND_VARIABLE) else { return };
    let words = words(command.as_bytes()).expect("a plain scp command");
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    // Standard output belongs to the test harness.
    let exit = serve(&words, umask, &mut Peer::new(&io::stdin(), &io::stderr(), Tally::silent()));
    if exit != EXIT_DONE {
        // A failure without a word.
        std::panic::resume_unwind(Box::new(()));
    }
}

/// Runs OpenSSH's `scp -O` in `home`, with us as the other machine `h`.
fn openssh(home: &Path, arguments: &[&str]) -> Output {
    let script = home.with_extension("ssh");
    let program = std::env::current_exe().expect("this program");
    let text = format!(
        "#!/bin/sh\nfor last; do :; done\nexport {COMMAND_VARIABLE}=\"$last\"\ncd '{}'\n\
         exec '{}' --exact scp::tests::an_scp_for_an_outside_client --nocapture 2>&1 >/dev/null\n",
        home.display(),
        program.display(),
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a script");
    Command::new("scp")
        .args(["-O", "-S"])
        .arg(&script)
        .args(arguments)
        .current_dir(home.parent().expect("a parent"))
        .output()
        .expect("scp of openssh-client")
}

#[test]
fn openssh_copies_both_ways() {
    if Command::new("scp").output().is_err() {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "scp of openssh-client is missing, and CHORES_REQUIRE_ENGINE is set"
        );
        println!("skipped: there is no scp of openssh-client on this machine");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path();
    let (home, local) = (base.join("home"), base.join("local"));
    fs::create_dir(&home).expect("a directory");
    fs::create_dir_all(local.join("tree/deep er/empty")).expect("a directory");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    fs::write(local.join("a b$'c"), &content).expect("a file");
    fs::write(local.join("tree/deep er/f"), "deep").expect("a file");
    fs::set_permissions(local.join("tree/deep er/f"), fs::Permissions::from_mode(0o751))
        .expect("a mode");
    fs::write(local.join("tree/zero"), "").expect("a file");
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(local.join("tree/zero")).expect("a file").set_modified(then).expect("a time");
    let copied = |arguments: &[&str]| {
        let output = openssh(&home, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    // Into the home directory, under a name, into a directory with a blank; quoted for the remote shell.
    copied(&["local/a b$'c", "h:"]);
    assert!(fs::read(home.join("a b$'c")).expect("the file") == content);
    copied(&["local/tree/zero", "h:'new name'"]);
    assert!(home.join("new name").exists());
    copied(&["-r", "-p", "local/tree", "h:~/"]);
    assert_eq!(fs::read(home.join("tree/deep er/f")).expect("the file"), b"deep");
    assert_eq!(fs::metadata(home.join("tree/deep er/f")).expect("the file").mode() & 0o7777, 0o751);
    assert_eq!(fs::metadata(home.join("tree/zero")).expect("the file").mtime(), 1_000_000_000);
    copied(&["local/a b$'c", "local/tree/zero", "h:tree/deep\\ er"]);
    assert!(home.join("tree/deep er/zero").exists());

    copied(&["-rp", "h:tree", "local/back"]);
    assert_eq!(fs::read(local.join("back/deep er/f")).expect("the file"), b"deep");
    assert!(fs::read(local.join("back/deep er/a b$'c")).expect("the file") == content);
    assert_eq!(fs::metadata(local.join("back/zero")).expect("the file").mtime(), 1_000_000_000);
    assert!(local.join("back/deep er/empty").is_dir());
    // Patterns, and a name with a newline, which OpenSSH writes in this way as well.
    for name in ["x1.log", "x2.log", "y\n.log"] {
        fs::write(home.join(name), name).expect("a file");
    }
    fs::create_dir(local.join("logs")).expect("a directory");
    copied(&["h:*.log", "local/logs"]);
    let mut names: Vec<_> = fs::read_dir(local.join("logs"))
        .expect("a listing")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["x1.log", "x2.log", "y\\^J.log"]);

    let missing = openssh(&home, &["h:missing", "local/"]);
    assert!(!missing.status.success());
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("missing: No such file"),
        "{missing:?}"
    );
    let refused = openssh(&home, &["h:tree", "local/"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a regular file"), "{refused:?}");
    let nowhere = openssh(&home, &["local/tree/zero", "h:no/such/place"]);
    assert!(!nowhere.status.success());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_source_comes_to_an_end(input in "([CDTE\\x00-\\x02]?0644 [0-9]{1,2} [a-c]\\n?|E\\n|\\x00|T1 0 1 0\\n){0,12}") {
        let directory = tempfile::tempdir().expect("a directory");
        sink("-rpt", &directory.path().join("target"), input.as_bytes());
        prop_assert!(fs::read_dir(directory.path()).expect("a listing").count() <= 1);
    }
}

#[test]
fn every_file_is_told_with_its_whole_path_and_its_hash() {
    use crate::wire::files::{Act, Report};
    use crate::wire::socket::Socket;

    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let (ours, theirs) = Socket::pair().expect("a pair");
    let tally = Tally::new(theirs.into_descriptor());
    let input = b"D0755 0 sub\nC0640 5 one\nhello\0E\n";
    let (_, status) = talk_telling(&[b"scp", b"-rt", root.as_os_str().as_bytes()], input, tally);
    assert_eq!(status, 0);
    let heard = || {
        let next = || ours.receive::<Report>().expect("a message").map(|(report, _)| report);
        std::iter::from_fn(next).collect::<Vec<_>>()
    };
    let path = |name: &str| root.join(name).into_os_string().into_encoded_bytes();
    let reports = heard();
    let made = Act::MakeDirectory { path: path("sub") };
    assert_eq!(reports[0], Report::Done { act: made, failed: None });
    assert!(matches!(&reports[1], Report::Opened { path: its, .. } if *its == path("sub/one")));
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(b"hello").into();
    assert!(
        matches!(&reports[2], Report::Closed(closed) if closed.written.sha256 == Some(hash)),
        "{reports:?}"
    );
    assert_eq!(reports.last(), Some(&Report::End));

    let (ours, theirs) = Socket::pair().expect("a pair");
    let tally = Tally::new(theirs.into_descriptor());
    let from = path("sub");
    let (_, status) = talk_telling(&[b"scp", b"-rf", &from], &[0; 16], tally);
    assert_eq!(status, 0);
    let next = || ours.receive::<Report>().expect("a message").map(|(report, _)| report);
    let reports: Vec<_> = std::iter::from_fn(next).collect();
    assert!(matches!(&reports[0], Report::Opened { path: its, .. } if *its == path("sub/one")));
    assert!(
        matches!(&reports[1], Report::Closed(closed) if closed.read.sha256 == Some(hash)),
        "{reports:?}"
    );
    assert_eq!(reports[2..], [Report::End]);
}
