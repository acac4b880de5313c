use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;

/// Set in the process that is confined; what it shall do then.
const DEED: &str = "CHORES_TEST_NET_DEED";

#[test]
fn deed() {
    let Ok(deed) = std::env::var(DEED) else { return };
    give_up_privileges().unwrap();
    forbid_system_calls().unwrap();
    let denied = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM), "{deed}");
    };
    match &*deed {
        "open" => denied(std::fs::File::open("/etc/passwd").map(drop)),
        "create" => denied(std::fs::File::create("/tmp/chores-net-test").map(drop)),
        "unlink" => denied(std::fs::remove_file("/tmp/chores-net-test")),
        "stat" => denied(std::fs::metadata("/etc/passwd").map(drop)),
        "kill" => denied(
            rustix::process::kill_process(rustix::process::getpid(), Signal::TERM)
                .map_err(io::Error::from),
        ),
        "inject" => {
            // TIOCSTI types into a terminal.
            let descriptor = io::stdin();
            denied(rustix::termios::tcgetattr(descriptor).map(drop).map_err(io::Error::from));
        }
        "threads" => {
            let sums: Vec<_> = (0..8).map(|n| std::thread::spawn(move || n * n)).collect();
            let sums: Vec<i32> = sums.into_iter().map(|sum| sum.join().unwrap()).collect();
            assert_eq!(sums, [0, 1, 4, 9, 16, 25, 36, 49]);
        }
        "time" => assert!(std::time::SystemTime::now().elapsed().is_ok()),
        "socket" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
        "unix" => drop(std::os::unix::net::UnixStream::connect("/var/run/docker.sock")),
        "fork" => denied(Command::new("/bin/true").status().map(drop)),
        "exec" => drop(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/true"))),
        "setuid" => {
            rustix::thread::set_thread_uid(Uid::ROOT).unwrap_err();
        }
        "unshare" => {
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&io::stdin()), None)
                .unwrap_err();
        }
        other => panic!("{other}"),
    }
}

fn status_of(deed: &str) -> std::process::ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "net::confine::tests::deed"])
        .env(DEED, deed)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    println!("{deed}: {output:?}");
    output.status
}

#[test]
fn what_moves_bytes_works_and_everything_else_is_denied() {
    for deed in ["open", "create", "unlink", "stat", "kill", "fork", "inject", "threads", "time"] {
        assert!(status_of(deed).success(), "{deed}");
    }
}

#[test]
fn what_only_a_taken_over_process_does_kills_it() {
    for deed in ["socket", "unix", "exec", "setuid", "unshare"] {
        assert_eq!(status_of(deed).signal(), Some(libc::SIGSYS), "{deed}");
    }
}
