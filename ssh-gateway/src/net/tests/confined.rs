//! The role as it is in earnest: a process of its own, confined.

use std::os::fd::AsFd as _;

use super::*;

/// Set in the process that plays the role; its standard input is the broker's socket.
const ROLE: &str = "CHORES_TEST_NET_ROLE";

#[test]
fn role() {
    if std::env::var_os(ROLE).is_some() {
        let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
        assert_eq!(
            format!("{:?}", run(Socket::from_descriptor(socket))),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}

fn confined(limits: Limits) -> Gateway {
    let mut first = None;
    let gateway = Gateway::prepare(limits, |socket, settings, listener| {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "net::tests::confined::role", "--nocapture"])
            .env(ROLE, "1")
            .stdin(socket.into_descriptor())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        first = Some((settings, listener));
        (None, Some(process))
    });
    let (settings, listener) = first.unwrap();
    gateway.double.begin(settings, &listener);
    gateway
}

#[test]
fn everything_works_under_confinement() {
    if !have("ssh") {
        return;
    }
    let gateway = confined(Limits { spool_bytes: 64 * MB, ..limits() });
    let output = gateway.run(&[], &["echo out; echo err >&2; exit 7"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(7));
    let output = gateway.run(&["-tt"], &["tty >/dev/null && echo terminal"]);
    assert_eq!(text(&output.stdout), "terminal\r\n");
    // A message too long for the socket.
    let long = format!("echo {} | wc -c", "x".repeat(100_000));
    assert_eq!(text(&gateway.run(&[], &[&long]).stdout), "100001\n");
    // Through a file.
    let mut late = gateway.ssh(&[], &["sleep 1; wc -c"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut late, 30 * MB);
    assert_eq!(text(&ended(late).stdout), format!("{}\n", 30 * MB));
    writer.join().unwrap().unwrap();

    let process = gateway.process.as_ref().unwrap();
    for task in std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap() {
        let task = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if task.starts_with("Name:\ttokio") {
            for set in ["CapInh:\t0", "CapPrm:\t0", "CapEff:\t0", "CapAmb:\t0", "Seccomp:\t2"] {
                assert!(task.contains(set), "{set}: {task}");
            }
            assert!(task.contains("NoNewPrivs:\t1"), "{task}");
            if rustix::process::geteuid().is_root() {
                assert!(task.contains("Uid:\t65534\t65534\t65534\t65534"), "{task}");
                assert!(task.contains("CapBnd:\t0000000000000000"), "{task}");
                assert!(task.contains("Groups:\t\n") || task.contains("Groups:\t \n"), "{task}");
            }
        }
    }
}

#[test]
fn the_role_ends_when_the_broker_is_gone() {
    let Ok((ours, theirs)) = Socket::pair() else { unreachable!() };
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "net::tests::confined::role", "--nocapture"])
        .env(ROLE, "1")
        .stdin(theirs.into_descriptor())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let settings = Settings {
        host_keys: vec![Opaque(key(2).to_openssh(LineEnding::LF).unwrap().as_bytes().to_vec())],
        host_certificates: Vec::new(),
        banner: None,
        limits: limits(),
        proxies: Vec::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ours.send(&Word::Begin(Box::new(settings)), &[listener.as_fd()]).unwrap();
    drop(ours);
    let output = ended(process);
    assert!(output.status.success(), "{output:?}");
}
