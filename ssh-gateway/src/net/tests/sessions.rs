use super::*;
use crate::wire::Exit;
use crate::wire::net::{News, Question};

#[test]
fn a_program_runs_with_its_streams_and_ends_with_its_status() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&[], &["echo out; echo err >&2; exit 7"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(7));

    let mut cat = gateway.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(text(&ended(cat).stdout), "through");

    let output = gateway.run(&[], &["kill -TERM $$; sleep 9"]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");

    let (user, client) = gateway.double.wait(|question| match question {
        Question::Authenticate { login, client, .. } => Some((login.to_string(), client.clone())),
        _ => None,
    });
    assert_eq!(user, "web");
    assert!(client.starts_with("SSH-2.0-OpenSSH"), "{client}");
}

#[test]
fn a_refused_session_says_why_and_ends_with_the_status_of_the_refusal() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&[], &["refused"]);
    assert_eq!(text(&output.stderr), "you may not enter web\r\n");
    assert_eq!(output.status.code(), Some(77));
    let output = gateway.run(&[], &["degraded"]);
    assert!(text(&output.stderr).starts_with("not as confined as it should be\r\n"), "{output:?}");
}

#[test]
fn a_wrong_key_and_a_wrong_name_get_the_same_answer() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let name = gateway.run(&["-l", "nobody"], &["true"]);
    assert_eq!(name.status.code(), Some(255));
    std::fs::write(gateway.key(), &*key(9).to_openssh(LineEnding::LF).unwrap()).unwrap();
    let wrong = gateway.run(&[], &["true"]);
    let plain = |output: &Output| text(&output.stderr).replace("nobody@", "web@");
    assert_eq!(plain(&wrong), plain(&name));
    assert_eq!(gateway.double.asked(|question| matches!(question, Question::Start { .. })), 0);
}

#[test]
fn a_terminal_is_one_and_hears_of_its_variables() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let script = "tty >/dev/null && echo terminal; echo $TERM; echo $LC_TEST; exit 3";
    let mut command = gateway.ssh(&["-tt", "-o", "SetEnv=LC_TEST=here"], &[script]);
    let output = ended(command.env("TERM", "xterm-test").spawn().unwrap());
    assert_eq!(text(&output.stdout), "terminal\r\nxterm-test\r\nhere\r\n", "{output:?}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_shell_on_a_terminal_takes_commands_and_ends() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let mut shell = gateway.ssh(&["-tt"], &[]).stdin(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"echo $((6*7))\nexit 4\n").unwrap();
    let output = ended(shell);
    assert!(text(&output.stdout).contains("42\r\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_terminal_that_others_keep_open_ends_with_its_program_and_all_its_output() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&["-tt"], &["trap '' HUP; sleep 300 & seq 3000; exit 5"]);
    let lines = text(&output.stdout);
    assert!(lines.ends_with("\r\n3000\r\n"), "{lines}");
    assert_eq!(lines.lines().count(), 3000);
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn pipes_that_others_keep_open_are_read_to_their_end() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&[], &["(sleep 1; echo late) & exit 6"]);
    assert_eq!(text(&output.stdout), "late\n");
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn a_client_that_goes_away_closes_what_it_had() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let mut client = gateway.ssh(&[], &["sleep 300"]).spawn().unwrap();
    let session = gateway.double.wait(|question| match question {
        Question::Start { session, .. } => Some(*session),
        _ => None,
    });
    client.kill().unwrap();
    client.wait().unwrap();
    gateway.double.wait(|question| {
        matches!(question, Question::Lost { session: its } if *its == session).then_some(())
    });
    gateway.double.wait(|question| {
        matches!(question, Question::Close { item } if *item == session).then_some(())
    });
    gateway.double.wait(|question| matches!(question, Question::Disconnected { .. }).then_some(()));
}

#[test]
fn a_client_that_ends_its_connection_has_not_lost_it() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let client = gateway.ssh(&["-tt"], &["sleep 300"]).spawn().unwrap();
    gateway.double.wait(|question| matches!(question, Question::Start { .. }).then_some(()));
    // As when its window is closed; the same way as with its `~.`.
    let pid = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    ended(client);
    gateway.double.wait(|question| matches!(question, Question::Disconnected { .. }).then_some(()));
    let lost = gateway.double.asked(|question| matches!(question, Question::Lost { .. }));
    assert_eq!(lost, 0);
}

#[test]
fn a_session_that_is_cut_ends_at_once_for_its_client() {
    if !have("ssh") {
        return;
    }
    for options in [&[][..], &["-tt"]] {
        let gateway = Gateway::start();
        let words =
            "trap '' HUP TERM; echo ready; while :; do read word; echo more; sleep 0.01; done";
        let mut client = gateway.ssh(options, &[words]).stdin(Stdio::piped()).spawn().unwrap();
        // As long as it is open, the client has something to say.
        let _input = client.stdin.take();
        let session = gateway.double.wait(|question| match question {
            Question::Start { session, .. } => Some(*session),
            _ => None,
        });
        let exit = Exit::Signal { number: libc::SIGKILL, core_dumped: false };
        gateway.double.say(News::Cut { session, exit });
        assert_eq!(ended(client).status.code(), Some(255), "{options:?}");
        gateway.double.wait(|question| {
            matches!(question, Question::Close { item } if *item == session).then_some(())
        });
    }
}

#[test]
fn the_broker_ends_a_connection_with_a_reason() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let client = gateway.ssh(&[], &["sleep 300"]).spawn().unwrap();
    let connection = gateway.double.wait(|question| match question {
        Question::Start { connection, .. } => Some(*connection),
        _ => None,
    });
    gateway.double.say(News::Disconnect { connection, reason: "maintenance".to_owned() });
    let output = ended(client);
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("maintenance"), "{output:?}");
    let reason = gateway.double.wait(|question| match question {
        Question::Disconnected { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "maintenance");
}

#[test]
fn a_drained_gateway_takes_nobody_in_and_ends_with_its_last_connection() {
    if !have("ssh") {
        return;
    }
    let mut gateway = Gateway::start();
    let mut client = gateway.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    gateway.double.wait(|question| matches!(question, Question::Start { .. }).then_some(()));
    gateway.double.say(News::Drain);
    // The listener is closed once the word was heard.
    let address = ("127.0.0.1", gateway.port);
    while std::net::TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    client.stdin.take().unwrap().write_all(b"still here").unwrap();
    assert_eq!(text(&ended(client).stdout), "still here");
    let runtime = gateway.runtime.take().unwrap();
    runtime.shutdown_timeout(Duration::from_secs(10));
}

#[test]
fn a_program_that_closes_its_output_goes_on_and_its_status_is_told() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let output = gateway.run(&[], &["echo out; exec >/dev/null 2>&1; sleep 2; exit 3"]);
    assert_eq!(text(&output.stdout), "out\n");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
