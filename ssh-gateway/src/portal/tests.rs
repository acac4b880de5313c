use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;

/// Longer than anything here takes, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
/// Set in the process that `a_signal_ends_it…` starts.
const CHILD_HOME: &str = "CHORES_TEST_PORTAL_HOME";

/// A portal in a thread, and the broker's end of its socket.
struct Bench {
    home: TempDir,
    socket: Socket,
    portal: JoinHandle<u8>,
    number: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with_hosts("")
    }

    fn with_hosts(hosts: &str) -> Self {
        let home = TempDir::new().unwrap();
        let sources =
            Sources { hosts: home.path().join("hosts"), resolver: home.path().join("resolv.conf") };
        fs::write(&sources.hosts, hosts).unwrap();
        let (socket, other) = Socket::pair().unwrap();
        let at = home.path().to_path_buf();
        let portal = std::thread::spawn(move || run_with(other, &at, sources));
        Self { home, socket, portal, number: 0 }
    }

    fn order(&mut self, act: Act) -> u64 {
        self.number += 1;
        self.socket.send(&Order { number: self.number, act }, &[]).unwrap();
        self.number
    }

    fn report(&self) -> (Report, Vec<OwnedFd>) {
        self.socket.receive_by(Instant::now() + PATIENCE).unwrap().expect("the portal has ended")
    }

    fn ask(&mut self, act: Act) -> Result<(Opened, Vec<OwnedFd>), String> {
        let number = self.order(act);
        let (report, descriptors) = self.report();
        assert_eq!(report.number, number);
        let opened = report.result?;
        assert_eq!(descriptors.len(), usize::from(opened != Opened::Nothing));
        Ok((opened, descriptors))
    }

    fn end(self) -> (TempDir, u8) {
        drop(self.socket);
        (self.home, self.portal.join().unwrap())
    }
}

fn only<T>(descriptors: Vec<OwnedFd>) -> T
where
    T: From<OwnedFd>,
{
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
    rustix::io::ioctl_fionbio(&descriptor, false).unwrap();
    T::from(descriptor)
}

fn connect(host: &str, port: u16) -> Act {
    Act::Connect { host: host.into(), port }
}

fn listen(host: &str, port: u16) -> Act {
    Act::Listen { host: host.into(), port }
}

/// Whether both ends are of one connection.
fn assert_joined(mut one: impl Read + io::Write, mut other: impl Read + io::Write) {
    one.write_all(b"there").unwrap();
    other.write_all(b"back!").unwrap();
    let mut bytes = [0; 5];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"there");
    one.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"back!");
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("not tested: IPv6, this machine has no ::1");
    }
    has
}

#[test]
fn it_connects_by_address_by_local_name_and_by_the_table_of_hosts() {
    let mut bench = Bench::with_hosts("127.0.0.1 db database\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "LOCALHOST.", "db", "Database"] {
        let (opened, descriptors) = bench.ask(connect(host, port)).unwrap();
        assert_eq!(opened, Opened::Connected, "{host}");
        assert_joined(only::<TcpStream>(descriptors), listener.accept().unwrap().0);
    }
    assert_eq!(bench.end().1, EXIT_DONE);
}

#[test]
fn a_local_name_that_only_listens_for_ipv6_is_reached() {
    if !has_ipv6() {
        return;
    }
    let mut bench = Bench::new();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["::1", "[::1]", "localhost"] {
        let (_, descriptors) = bench.ask(connect(host, port)).unwrap();
        assert_joined(only::<TcpStream>(descriptors), listener.accept().unwrap().0);
    }
}

#[test]
fn what_cannot_be_reached_is_refused_in_one_sentence() {
    let mut bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = bench.ask(connect("127.0.0.1", closed)).unwrap_err();
    assert_eq!(refused, format!("cannot connect to 127.0.0.1 port {closed}: connection refused"));
    let hostile = bench.ask(connect("a\u{1b}[2Jb", 1)).unwrap_err();
    assert_eq!(
        hostile,
        "cannot connect to a\\x1b[2Jb port 1: this is neither a host name nor an address"
    );
    let long = bench.ask(connect(&"x".repeat(30_000), 1)).unwrap_err();
    assert!(long.len() < 400, "{}", long.len());
    let missing = bench.ask(Act::ConnectUnix { path: b"missing".to_vec() }).unwrap_err();
    assert!(missing.ends_with("/missing: no such file or directory"), "{missing}");
}

#[test]
fn it_connects_to_unix_sockets_by_path_and_by_name() {
    let mut bench = Bench::new();
    let path = bench.home.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for path in [b"app.sock".to_vec(), path.into_os_string().into_encoded_bytes()] {
        let (opened, descriptors) = bench.ask(Act::ConnectUnix { path }).unwrap();
        assert_eq!(opened, Opened::Connected);
        assert_joined(only::<UnixStream>(descriptors), listener.accept().unwrap().0);
    }
    let name = format!("@{}", bench.home.path().display()).into_bytes();
    let (opened, listeners) = bench.ask(Act::ListenUnix { path: name.clone() }).unwrap();
    assert_eq!(opened, Opened::ListeningUnix { path: name.clone() });
    let (_, descriptors) = bench.ask(Act::ConnectUnix { path: name }).unwrap();
    let accepted = only::<UnixListener>(listeners).accept().unwrap().0;
    assert_joined(only::<UnixStream>(descriptors), accepted);
}

#[test]
fn it_listens_where_it_is_told_and_an_empty_host_is_the_loopback() {
    let mut bench = Bench::with_hosts("127.0.0.2 second\n");
    for (host, wanted) in [
        ("", Ipv4Addr::LOCALHOST),
        ("*", Ipv4Addr::LOCALHOST),
        ("localhost", Ipv4Addr::LOCALHOST),
        ("127.0.0.1", Ipv4Addr::LOCALHOST),
        ("second", Ipv4Addr::new(127, 0, 0, 2)),
        ("0.0.0.0", Ipv4Addr::UNSPECIFIED),
    ] {
        let (opened, descriptors) = bench.ask(listen(host, 0)).unwrap();
        let listener = only::<TcpListener>(descriptors);
        let bound = listener.local_addr().unwrap();
        assert_eq!(bound.ip(), wanted, "{host}");
        assert_eq!(opened, Opened::Listening { port: bound.port() });
        let client = TcpStream::connect(bound).unwrap();
        assert_joined(client, listener.accept().unwrap().0);
    }
}

#[test]
fn a_listener_for_ipv6_leaves_the_port_of_ipv4_alone() {
    if !has_ipv6() {
        return;
    }
    let mut bench = Bench::new();
    let (opened, _descriptors) = bench.ask(listen("::", 0)).unwrap();
    let Opened::Listening { port } = opened else { panic!("{opened:?}") };
    assert!(bench.ask(listen("0.0.0.0", port)).is_ok());
}

#[test]
fn an_address_that_is_taken_or_not_ours_is_refused() {
    let mut bench = Bench::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let sentence = bench.ask(listen("127.0.0.1", port)).unwrap_err();
    assert_eq!(sentence, format!("cannot listen on 127.0.0.1 port {port}: address already in use"));
    // RFC 5737: for documentation, so nobody has it.
    let sentence = bench.ask(listen("192.0.2.1", 0)).unwrap_err();
    assert!(sentence.ends_with("cannot assign requested address"), "{sentence}");
}

#[test]
fn the_port_is_free_again_once_the_listener_is_dropped() {
    let mut bench = Bench::new();
    let (opened, descriptors) = bench.ask(listen("", 0)).unwrap();
    let Opened::Listening { port } = opened else { panic!("{opened:?}") };
    drop(descriptors);
    // The answer to the next order shows that the portal has closed its own descriptor.
    bench.ask(Act::Unlisten { number: 1 }).unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn a_socket_file_is_the_users_own_and_replaces_nothing() {
    let mut bench = Bench::new();
    let home = bench.home.path().to_path_buf();
    fs::write(home.join("file"), "kept").unwrap();
    std::os::unix::fs::symlink("nowhere", home.join("link")).unwrap();
    for taken in ["file", "link"] {
        let sentence = bench.ask(Act::ListenUnix { path: taken.into() }).unwrap_err();
        assert!(sentence.ends_with("something is there already"), "{sentence}");
    }
    let (opened, listeners) = bench.ask(Act::ListenUnix { path: b"new.sock".to_vec() }).unwrap();
    let path = home.join("new.sock");
    assert_eq!(
        opened,
        Opened::ListeningUnix { path: path.clone().into_os_string().into_encoded_bytes() }
    );
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let client = UnixStream::connect(&path).unwrap();
    assert_joined(client, only::<UnixListener>(listeners).accept().unwrap().0);
    assert!(bench.ask(Act::ListenUnix { path: b"new.sock".to_vec() }).is_err());

    let (home, exit) = bench.end();
    assert_eq!(exit, EXIT_DONE);
    let mut left: Vec<_> =
        fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "hosts", "link"]);
    assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "kept");
}

#[test]
fn a_listener_that_is_not_used_any_more_loses_its_file_and_no_other() {
    let mut bench = Bench::new();
    let (one, other) = (bench.home.path().join("one"), bench.home.path().join("other"));
    let first = bench.order(Act::ListenUnix { path: b"one".to_vec() });
    bench.report();
    bench.ask(Act::ListenUnix { path: b"other".to_vec() }).unwrap();
    let (opened, _) = bench.ask(Act::Unlisten { number: first }).unwrap();
    assert_eq!(opened, Opened::Nothing);
    assert!(!one.exists() && other.exists());
    assert!(bench.ask(Act::Unlisten { number: 99 }).is_ok());

    // What took its place is not ours.
    fs::remove_file(&other).unwrap();
    fs::write(&other, "another's").unwrap();
    let (home, exit) = bench.end();
    assert_eq!(exit, EXIT_DONE);
    assert_eq!(fs::read_to_string(home.path().join("other")).unwrap(), "another's");
}

#[test]
fn an_agent_has_a_directory_of_its_own_that_goes_with_the_portal() {
    let mut bench = Bench::new();
    let mut directories = Vec::new();
    for _ in 0..2 {
        let (opened, listeners) = bench.ask(Act::ListenAgent).unwrap();
        let Opened::ListeningUnix { path } = opened else { panic!("{opened:?}") };
        let path = PathBuf::from(String::from_utf8(path).unwrap());
        assert!(path.is_absolute() && path.ends_with("agent.sock"), "{path:?}");
        let directory = path.parent().unwrap().to_path_buf();
        let found = fs::symlink_metadata(&directory).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o700);
        assert_eq!(found.uid(), rustix::process::geteuid().as_raw());
        let client = UnixStream::connect(&path).unwrap();
        assert_joined(client, only::<UnixListener>(listeners).accept().unwrap().0);
        directories.push(directory);
    }
    assert_ne!(directories[0], directories[1]);
    bench.ask(Act::Unlisten { number: 1 }).unwrap();
    assert!(!directories[0].exists() && directories[1].exists());
    assert_eq!(bench.end().1, EXIT_DONE);
    assert!(!directories[1].exists());
}

#[test]
fn listeners_have_a_bound() {
    let mut bench = Bench::new();
    for number in 0..64 {
        bench.ask(Act::ListenUnix { path: format!("{number}").into_bytes() }).unwrap();
    }
    assert!(bench.ask(Act::ListenUnix { path: b"more".to_vec() }).is_err());
    assert!(bench.ask(Act::ListenAgent).is_err());
    bench.ask(Act::Unlisten { number: 1 }).unwrap();
    assert!(bench.ask(Act::ListenUnix { path: b"more".to_vec() }).is_ok());
}

/// A unix listener whose queue is full: who connects has to wait.
fn full_listener(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let flags = rustix::net::SocketFlags::NONBLOCK;
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, flags, None).unwrap();
        let address = rustix::net::SocketAddrUnix::new(path).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => waiting.push(socket.into()),
            Err(rustix::io::Errno::AGAIN) => return (listener, waiting),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn slow_orders_do_not_hold_up_others_and_are_bounded() {
    let mut bench = Bench::new();
    let (listener, waiting) = full_listener(&bench.home.path().join("full"));
    for _ in 0..PENDING_MAX {
        bench.order(Act::ConnectUnix { path: b"full".to_vec() });
    }
    let sentence = bench.ask(connect("127.0.0.1", 1)).unwrap_err();
    assert_eq!(sentence, "too many forwards are being opened");
    assert!(bench.ask(Act::ListenUnix { path: b"free".to_vec() }).is_ok());
    // Room in the queue lets them through, each with its own number.
    rustix::net::listen(&listener, 2 * i32::try_from(PENDING_MAX + waiting.len()).unwrap())
        .unwrap();
    let mut numbers = Vec::new();
    for _ in 0..PENDING_MAX {
        let (report, _) = bench.report();
        assert_eq!(report.result, Ok(Opened::Connected));
        numbers.push(report.number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=PENDING_MAX as u64).collect::<Vec<_>>());
}

#[test]
fn it_ends_although_orders_are_under_way() {
    let mut bench = Bench::new();
    let (_listener, _waiting) = full_listener(&bench.home.path().join("full"));
    bench.order(Act::ConnectUnix { path: b"full".to_vec() });
    bench.ask(Act::ListenUnix { path: b"mine".to_vec() }).unwrap();
    let mine = bench.home.path().join("mine");
    assert!(mine.exists());
    let (_home, exit) = bench.end();
    assert_eq!(exit, EXIT_DONE);
    assert!(!mine.exists());
}

#[test]
fn an_order_that_means_nothing_ends_it() {
    let bench = Bench::new();
    rustix::io::write(&bench.socket, &[7, 7, 7]).unwrap();
    let Bench { portal, .. } = bench;
    assert_eq!(portal.join().unwrap(), EXIT_FAILED);
}

/// Not a test: the process that the next one starts. Its standard input is the socket.
#[test]
fn child_of_the_test_of_signals() {
    let Some(home) = std::env::var_os(CHILD_HOME) else { return };
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let exit = run(Socket::from_descriptor(socket), Path::new(&home));
    assert_eq!((exit, threads()), (EXIT_DONE, before));
}

fn start_child(home: &Path) -> (Child, Socket) {
    let (socket, other) = Socket::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "portal::tests::child_of_the_test_of_signals"])
        .env(CHILD_HOME, home)
        .stdin(Stdio::from(other.into_descriptor()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, socket)
}

#[test]
fn a_signal_ends_it_and_no_file_or_thread_of_it_is_left() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let home = TempDir::new().unwrap();
        let (mut child, socket) = start_child(home.path());
        let ask = |number: u64, act: Act| -> Report {
            socket.send(&Order { number, act }, &[]).unwrap();
            socket.receive_by(Instant::now() + PATIENCE).unwrap().expect("the portal has ended").0
        };
        ask(1, connect("localhost", 1));
        let mut paths = Vec::new();
        let acts = [(2, Act::ListenUnix { path: b"socket".to_vec() }), (3, Act::ListenAgent)];
        for (number, act) in acts {
            let report = ask(number, act);
            let Ok(Opened::ListeningUnix { path }) = report.result else { panic!("{report:?}") };
            paths.push(PathBuf::from(String::from_utf8(path).unwrap()));
        }
        assert!(paths.iter().all(|path| path.exists()));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(child.wait().unwrap().success(), "{signal:?}");
        assert!(!paths[0].exists() && !paths[1].parent().unwrap().exists(), "{signal:?}");
    }
}

#[test]
fn an_error_becomes_part_of_a_sentence() {
    let text = |errno: rustix::io::Errno| reason(&io::Error::from(errno));
    assert_eq!(text(rustix::io::Errno::CONNREFUSED), "connection refused");
    assert_eq!(text(rustix::io::Errno::TIMEDOUT), "connection timed out");
    assert_eq!(reason(&io::Error::other("Plain")), "plain");
    assert_eq!(reason(&io::Error::other("")), "");
}
