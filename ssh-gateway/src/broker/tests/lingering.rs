//! Terminals whose connection is lost, and who returns to them.

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;

use super::super::terminal;
use super::*;
use crate::descriptor::watched;
use crate::wire::{Terminal, WindowSize};

const LINGER: &str = "linger = '10m'";

/// A policy in which the keys 1 and 2 are two identities that may have shells.
pub(in crate::broker) fn policy(words: &str) -> Policy {
    policy_of("", words)
}

/// The same, with more words about the identities.
fn policy_of(about: &str, words: &str) -> Policy {
    let identity = |name: &str, number: u8| {
        let key = key(number).to_openssh().unwrap();
        format!("[[identity]]\nname = '{name}'\nkeys = ['{key}']\n{about}\n")
    };
    let text = format!(
        "{}{}[[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\n\
         allow = ['shell', 'terminal']\n{words}\n",
        identity("one", 1),
        identity("two", 2)
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let (_, policy) = policy::file::load(&PolicySource::File(path), &[], &|_| true);
    policy.map_err(|error| chain(&error)).unwrap()
}

async fn stage(words: &str) -> Stage {
    let stage = Stage::new(&line("", 1)).await;
    stage.shared.set_policy(policy(words));
    stage
}

fn shell(connection: u64, session: u64) -> Question {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    let terminal = Some(Terminal { term: "xterm".to_owned(), size, modes: Vec::new() });
    let (program, environment) = (Program::Shell, Vec::new());
    Question::Start { connection, session, program, terminal, environment, agent: false }
}

/// A program with a terminal, and net's end of it.
struct Running {
    task: AsyncSocket,
    program: AsyncFd<OwnedFd>,
    net: AsyncFd<OwnedFd>,
}

/// Starts a shell on a connection that is new.
async fn running(stage: &mut Stage, connection: u64, session: u64, number: u8) -> Running {
    assert_eq!(stage.login(connection, "web", number).await, Answer::Granted);
    started(stage, connection, session).await
}

/// Starts a shell on a connection that is there.
async fn started(stage: &mut Stage, connection: u64, session: u64) -> Running {
    stage.ask(shell(connection, session)).await;
    let task = stage.task().await;
    enter_and_start(&task).await;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let program = ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut attributes = tcgetattr(&program).unwrap();
    attributes.make_raw();
    tcsetattr(&program, OptionalActions::Now, &attributes).unwrap();
    task.send(&Report::Started, &[master.as_fd()]).await.unwrap();
    Running { task, program: watched(program).unwrap(), net: answered(stage).await }
}

/// The terminal that net is answered with.
async fn answered(stage: &Stage) -> AsyncFd<OwnedFd> {
    match stage.hear().await {
        (Word::Answer { answer: Answer::Started { terminal: true, .. }, .. }, mut descriptors) => {
            watched(descriptors.remove(0)).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// The key 1 comes again, and is asked: net's end of the terminal, and the question.
async fn asked(stage: &mut Stage, connection: u64, session: u64) -> (AsyncFd<OwnedFd>, String) {
    assert_eq!(stage.login(connection, "web", 1).await, Answer::Granted);
    asked_there(stage, connection, session).await
}

async fn asked_there(
    stage: &mut Stage,
    connection: u64,
    session: u64,
) -> (AsyncFd<OwnedFd>, String) {
    stage.ask(shell(connection, session)).await;
    let net = answered(stage).await;
    let question = read(&net, "[Y/n] ").await;
    // What was made ready for a new session is given up meanwhile.
    drop(stage.task().await);
    (net, question)
}

async fn read(from: &AsyncFd<OwnedFd>, until: &str) -> String {
    read_one(from, &[until]).await
}

async fn read_one(from: &AsyncFd<OwnedFd>, until: &[&str]) -> String {
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    while !until.iter().any(|until| seen.contains(until)) {
        let read = timeout(PATIENCE, terminal::read(from, &mut bytes)).await;
        let length = read.unwrap_or_else(|_| panic!("no {until:?} in {seen:?}")).unwrap();
        assert_ne!(length, 0, "{seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    seen
}

/// The connection of a session breaks.
async fn lose(stage: &Stage, connection: u64, session: u64) {
    stage.tell(Question::Lost { session }).await;
    stage.tell(Question::Disconnected { connection, reason: "broken".to_owned() }).await;
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(LOOK_PERIOD).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not: {what}"));
}

async fn lingers(stage: &Stage) {
    let told = || stage.shared.sessions.told();
    until("it lingers", || told().iter().any(|session| session.lingering.is_some())).await;
}

#[tokio::test]
async fn a_lost_terminal_is_returned_to_by_its_key_and_by_no_other() {
    let mut stage = stage(LINGER).await;
    let lost = running(&mut stage, 1, 5, 1).await;
    terminal::write(&lost.program, b"hello\r\n").await.unwrap();
    read(&lost.net, "hello").await;
    lose(&stage, 1, 5).await;
    drop(lost.net);
    lingers(&stage).await;
    terminal::write(&lost.program, b"meanwhile\r\n").await.unwrap();
    // Another key begins its own, and is asked nothing.
    let other = running(&mut stage, 2, 6, 2).await;
    terminal::write(&other.program, b"of another").await.unwrap();
    assert_eq!(read(&other.net, "another").await, "of another");
    let (net, question) = asked(&mut stage, 3, 7).await;
    assert!(question.contains("lost its connection"), "{question:?}");
    assert!(!stage.audit().contains("\"attached\""));
    terminal::write(&net, b"y\r").await.unwrap();
    let shown = read(&net, "meanwhile").await;
    assert!(shown.contains("hello\r\nmeanwhile"), "{shown:?}");
    terminal::write(&net, b"typed").await.unwrap();
    assert_eq!(read(&lost.program, "typed").await, "typed");
    assert!(stage.audit().contains("\"attached\""));
    let told = stage.shared.sessions.told();
    let again = told.iter().find(|session| session.connection == 3).unwrap();
    assert_eq!(again.lingering, None);
    // It is lost once more, and nobody is asked about what has ended.
    lose(&stage, 3, 7).await;
    lingers(&stage).await;
    lost.task.send(&Report::Exited(Exit::Status(3)), &[]).await.unwrap();
    until("its end is told", || stage.audit().contains("\"status\":3")).await;
    assert_eq!(order(&lost.task).await, Some(Order::Stop { grace_ms: 100 }));
    lost.task.send(&Report::Gone, &[]).await.unwrap();
    assert_eq!(order(&lost.task).await, None);
    assert!(stage.audit().contains("its program has ended"));
    // No field of these lines is one that the chain knows as something else.
    for line in stage.audit().lines() {
        assert!(crate::chain::Link::parse(line.as_bytes()).is_some(), "{line}");
    }
    // It is said to a net that knows nothing of it any more.
    assert!(matches!(stage.hear().await.0, Word::News(News::Exited { session: 7, .. })));
    let fresh = running(&mut stage, 4, 8, 1).await;
    terminal::write(&fresh.program, b"fresh").await.unwrap();
    assert_eq!(read(&fresh.net, "fresh").await, "fresh");
}

#[tokio::test]
async fn of_two_who_answer_yes_one_returns_and_the_other_begins_anew() {
    let mut stage = stage(LINGER).await;
    let lost = running(&mut stage, 1, 5, 1).await;
    lose(&stage, 1, 5).await;
    lingers(&stage).await;
    let mut nets = Vec::new();
    for (connection, session) in [(2, 6), (3, 7)] {
        nets.push(asked(&mut stage, connection, session).await.0);
    }
    for net in &nets {
        terminal::write(net, b"y\r").await.unwrap();
    }
    terminal::write(&lost.program, b"the one\r\n").await.unwrap();
    let task = stage.task().await;
    enter_and_start(&task).await;
    let mut told = Vec::new();
    for net in &nets {
        told.push(read_one(net, &["the one\r\n", "a new one begins"]).await);
    }
    assert_eq!(told.iter().filter(|told| told.contains("the one\r\n")).count(), 1, "{told:?}");
    assert_eq!(stage.audit().matches("\"attached\"").count(), 1);
}

/// What ends a session that waits.
#[derive(Debug, Clone, Copy)]
enum By {
    Time,
    Kill,
    Policy,
    Shutdown,
}

#[tokio::test]
async fn a_session_that_waits_ends_in_time_and_when_it_is_told_to() {
    for (by, words, reason) in [
        (By::Time, "linger = '1s'", "nobody has returned in time"),
        (By::Kill, LINGER, "it was killed"),
        (By::Policy, LINGER, "what it was begun by counts no more"),
        (By::Shutdown, LINGER, "the gateway is stopped"),
    ] {
        let mut stage = stage(words).await;
        let lost = running(&mut stage, 1, 5, 1).await;
        lose(&stage, 1, 5).await;
        lingers(&stage).await;
        match by {
            By::Time => {}
            By::Kill => {
                let told = stage.shared.sessions.told();
                stage.shared.sessions.get(&told[0].session).unwrap().end.cancel();
            }
            By::Policy => stage.shared.set_policy(policy("linger = '11m'")),
            By::Shutdown => stage.shutdown.request(),
        }
        assert_eq!(order(&lost.task).await, Some(Order::Stop { grace_ms: 100 }), "{by:?}");
        lost.task.send(&Report::Exited(Exit::Status(7)), &[]).await.unwrap();
        lost.task.send(&Report::Gone, &[]).await.unwrap();
        until("its end is told", || stage.audit().contains("\"status\":7")).await;
        assert!(stage.audit().contains(reason), "{by:?}: {}", stage.audit());
        until("it is not listed", || stage.shared.sessions.told().is_empty()).await;
    }
}

#[tokio::test]
async fn what_counts_no_more_when_the_answer_comes_is_not_returned_to() {
    let mut stage = stage(LINGER).await;
    let _lost = running(&mut stage, 1, 5, 1).await;
    lose(&stage, 1, 5).await;
    lingers(&stage).await;
    let (net, _) = asked(&mut stage, 2, 6).await;
    stage.shared.set_policy(policy(""));
    terminal::write(&net, b"y\r").await.unwrap();
    read(&net, "has been changed since").await;
    assert!(!stage.audit().contains("\"attached\""));
}

#[tokio::test]
async fn what_its_client_closes_does_not_wait_nor_does_what_no_rule_lets() {
    for (words, is_lost) in [(LINGER, false), ("", true)] {
        let mut stage = stage(words).await;
        let left = running(&mut stage, 1, 5, 1).await;
        if is_lost {
            stage.tell(Question::Lost { session: 5 }).await;
        }
        stage.tell(Question::Close { item: 5 }).await;
        assert_eq!(order(&left.task).await, Some(Order::Stop { grace_ms: 100 }), "{words}");
        assert!(!stage.audit().contains("\"lost\""), "{words}");
        // Its terminal is hung up with the client, and does not wait for the end of the program.
        drop(left.net);
        is_hung_up(&left.program).await;
    }
}

/// The other end of this terminal is closed: what is read is its end.
async fn is_hung_up(end: &AsyncFd<OwnedFd>) {
    let mut bytes = [0; 4096];
    let ended = async { while terminal::read(end, &mut bytes).await.unwrap() > 0 {} };
    timeout(PATIENCE, ended).await.expect("it is not hung up");
}

/// Whoever still holds the terminal of a connection that is lost is rid of it, and does not get what the next one gets.
#[tokio::test]
async fn who_has_lost_a_terminal_is_cut_off_before_and_after_another_has_it() {
    let mut stage = stage(LINGER).await;
    let lost = running(&mut stage, 1, 5, 1).await;
    lose(&stage, 1, 5).await;
    lingers(&stage).await;
    is_hung_up(&lost.net).await;
    let (second, _) = asked(&mut stage, 2, 6).await;
    terminal::write(&second, b"y\r").await.unwrap();
    terminal::write(&lost.program, b"back\r\n").await.unwrap();
    read(&second, "back").await;
    // It is lost while its net still has it, and a third one returns.
    lose(&stage, 2, 6).await;
    lingers(&stage).await;
    is_hung_up(&second).await;
    let (third, _) = asked(&mut stage, 3, 7).await;
    terminal::write(&third, b"y\r").await.unwrap();
    terminal::write(&lost.program, b"again\r\n").await.unwrap();
    read(&third, "again").await;
}

#[tokio::test]
async fn when_net_dies_terminals_wait() {
    let mut stage = stage(LINGER).await;
    let lost = running(&mut stage, 1, 5, 1).await;
    let Stage { shared, net, serving, .. } = stage;
    // With everything that it had.
    drop((net, lost.net));
    assert!(matches!(timeout(PATIENCE, serving).await.unwrap().unwrap(), NetEnd::Gone(_)));
    let told = || shared.sessions.told();
    until("it lingers", || told().iter().any(|session| session.lingering.is_some())).await;
    shared.lingering.end();
    assert_eq!(order(&lost.task).await, Some(Order::Stop { grace_ms: 100 }));
}

#[tokio::test]
async fn who_owes_a_code_is_told_of_nothing() {
    let mut stage = Stage::new(&line("", 1)).await;
    let file = stage.directory.path().join("secret");
    std::fs::write(&file, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let about = format!("totp_file = '{}'", file.display());
    let words = format!("{LINGER}\nrequire = ['totp']");
    stage.shared.set_policy(policy_of(&about, &words));
    let secret = crate::totp::Secret::load(&file).unwrap();
    let step = crate::totp::step(Timestamp::now());
    let code = |connection, given: &str| Question::Code {
        connection,
        login: LoginName { user: "web".to_owned(), host: None },
        code: Opaque(given.as_bytes().to_vec()),
    };
    let right = |step| format!("{:06}", secret.code(step));
    assert_eq!(stage.login(1, "web", 1).await, Answer::CodeNeeded);
    assert_eq!(stage.answer(code(1, &right(step))).await.0, Answer::Granted);
    let _lost = started(&mut stage, 1, 5).await;
    lose(&stage, 1, 5).await;
    lingers(&stage).await;
    // With the key alone, and with a code that was used.
    assert_eq!(stage.login(2, "web", 1).await, Answer::CodeNeeded);
    let refused = stage.refusal(shell(2, 6)).await;
    assert!(refused.message.contains("no such connection"), "{refused:?}");
    stage.refusal(code(2, &right(step))).await;
    let refused = stage.refusal(shell(2, 7)).await;
    assert!(refused.message.contains("no such connection"), "{refused:?}");
    assert_eq!(stage.answer(code(2, &right(step + 1))).await.0, Answer::Granted);
    let (_net, question) = asked_there(&mut stage, 2, 8).await;
    assert!(question.contains("lost its connection"), "{question:?}");
}

#[tokio::test]
async fn what_somebody_is_asked_about_and_what_was_returned_to_is_ended_too() {
    for (returns, by) in
        [(false, By::Kill), (false, By::Shutdown), (true, By::Kill), (true, By::Shutdown)]
    {
        let mut stage = stage(LINGER).await;
        let lost = running(&mut stage, 1, 5, 1).await;
        lose(&stage, 1, 5).await;
        lingers(&stage).await;
        let (net, _) = asked(&mut stage, 2, 6).await;
        if returns {
            terminal::write(&net, b"y\r").await.unwrap();
            terminal::write(&lost.program, b"back\r\n").await.unwrap();
            read(&net, "back").await;
        }
        if matches!(by, By::Kill) {
            let told = stage.shared.sessions.told();
            stage.shared.sessions.get(&told[0].session).unwrap().end.cancel();
        } else {
            stage.shutdown.request();
        }
        let stop = Some(Order::Stop { grace_ms: 100 });
        assert_eq!(order(&lost.task).await, stop, "{returns} {by:?}");
        lost.task.send(&Report::Exited(Exit::Status(7)), &[]).await.unwrap();
        lost.task.send(&Report::Gone, &[]).await.unwrap();
        until("its end is told", || stage.audit().contains("\"status\":7")).await;
        let is_told = stage.audit().contains("\"linger-ended\"");
        assert_eq!(is_told, !returns, "{by:?}");
    }
}

#[tokio::test]
async fn nobody_returns_without_a_line_in_the_audit() {
    let mut stage = stage(LINGER).await;
    let lost = running(&mut stage, 1, 5, 1).await;
    lose(&stage, 1, 5).await;
    lingers(&stage).await;
    let (net, _) = asked(&mut stage, 2, 6).await;
    // From now on there is none.
    stage.shared.journal.end().await;
    terminal::write(&net, b"y\r").await.unwrap();
    read(&net, "cannot keep its records").await;
    assert!(matches!(stage.hear().await.0, Word::News(News::Exited { session: 6, .. })));
    // It waits on, and whoever comes next is asked.
    lingers(&stage).await;
    let (_net, question) = asked(&mut stage, 3, 7).await;
    assert!(question.contains("lost its connection"), "{question:?}");
    let waiting = timeout(Duration::from_millis(100), lost.task.receive::<Order>());
    assert!(waiting.await.is_err());
}

#[tokio::test]
async fn nobody_is_waited_for_without_a_line_in_the_audit() {
    for (words, waits) in [("", false), ("unrecorded = 'allow'", true)] {
        let mut stage = stage(&format!("{LINGER}\n{words}")).await;
        let lost = running(&mut stage, 1, 5, 1).await;
        stage.shared.journal.end().await;
        lose(&stage, 1, 5).await;
        if waits {
            lingers(&stage).await;
            continue;
        }
        assert_eq!(order(&lost.task).await, Some(Order::Stop { grace_ms: 100 }));
        drop(lost.net);
        is_hung_up(&lost.program).await;
        assert!(stage.shared.sessions.told().iter().all(|session| session.lingering.is_none()));
    }
}

#[tokio::test]
async fn one_that_finds_no_room_ends_and_the_others_wait_on() {
    let mut stage = stage(LINGER).await;
    let mut all = Vec::new();
    for number in 1..=5 {
        all.push(running(&mut stage, number, number, 1).await);
    }
    for number in 1..=5 {
        lose(&stage, number, number).await;
        let told = || stage.audit().matches("\"event\":\"lost\"").count() as u64;
        until("the loss is told", || told() == number).await;
    }
    let last = all.pop().unwrap();
    assert_eq!(order(&last.task).await, Some(Order::Stop { grace_ms: 100 }));
    assert_eq!(stage.audit().matches("\"not_kept\"").count(), 1);
    let told = stage.shared.sessions.told();
    assert_eq!(told.iter().filter(|session| session.lingering.is_some()).count(), 4);
    for waiting in &all {
        let order = timeout(Duration::from_millis(20), waiting.task.receive::<Order>());
        assert!(order.await.is_err());
    }
}
