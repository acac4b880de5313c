use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

use super::super::Scope;
use super::*;
use crate::policy::{Record, Unrecorded};
use crate::wire::Exit;

const SIZE: WindowSize = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };

/// Long enough for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

/// The two sides of a program's terminal; bytes go through as they are.
fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut attributes = tcgetattr(&slave).unwrap();
    attributes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &attributes).unwrap();
    (master, slave)
}

fn tap() -> Arc<Tap> {
    let (record, unrecorded) = (Record::Nothing, Unrecorded::Refuse);
    Arc::new(Tap::new(None, record, unrecorded, Scope::Whole, CancellationToken::new()))
}

async fn read(from: &AsyncFd<OwnedFd>, until: &str) -> String {
    let reading = async {
        let mut seen = String::new();
        let mut bytes = [0; 4096];
        while !seen.contains(until) {
            let length = terminal::read(from, &mut bytes).await.unwrap();
            assert_ne!(length, 0, "{seen:?}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        seen
    };
    timeout(PATIENCE, reading).await.unwrap()
}

/// Somebody who returns: his side of it.
fn returns(line: &Line, size: WindowSize) -> AsyncFd<OwnedFd> {
    let (ours, master) = Terminal::new(size).unwrap();
    ours.make_raw().unwrap();
    line.join(ours);
    watched(master).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_nobody_is_there_is_shown_to_who_returns() {
    let tap = tap();
    let mut live = tap.watch();
    let (master, slave) = pty();
    let program = watched(slave).unwrap();
    let (client, line) = terminal_of(&tap, SIZE, master).unwrap();
    let client = watched(client).unwrap();
    terminal::write(&program, b"before\r\n").await.unwrap();
    read(&client, "before").await;
    // It is gone before anybody has said so, and with it what nobody has read.
    drop(client);
    terminal::write(&program, b"\x1b[6nmeanwhile\r\n").await.unwrap();
    line.leave();
    terminal::write(&program, b"later\r\n").await.unwrap();
    let mut seen = String::new();
    while !seen.contains("later") {
        if let super::super::Live::Output(bytes) = live.recv().await.unwrap() {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    let size = WindowSize { columns: 100, rows: 30, ..SIZE };
    let client = returns(&line, size);
    let shown = read(&client, "later").await;
    // In order, on an empty screen, and without the question that a terminal would answer.
    assert!(shown.contains("\x1b[2Jbefore\r\nmeanwhile\r\nlater"), "{shown:?}");
    terminal::write(&client, b"typed").await.unwrap();
    assert_eq!(read(&program, "typed").await, "typed");
    let rows = || tcgetwinsize(program.get_ref()).unwrap().ws_row;
    timeout(PATIENCE, async {
        while rows() != 30 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    terminal::write(&program, b"to the end").await.unwrap();
    read(&client, "to the end").await;
    timeout(PATIENCE, tap.exited(Exit::Status(0))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_replaced_types_and_sees_nothing_more() {
    let tap = tap();
    let (master, slave) = pty();
    let program = watched(slave).unwrap();
    let (first, line) = terminal_of(&tap, SIZE, master).unwrap();
    let first = watched(first).unwrap();
    // More than it takes: it does not read.
    let flood = vec![b'x'; 1 << 20];
    let flooding = terminal::write(&program, &flood);
    assert!(timeout(Duration::from_millis(100), flooding).await.is_err());
    let second = returns(&line, SIZE);
    terminal::write(&first, b"from the first").await.ok();
    // There may be no room for it before the second one has read what is kept.
    let (written, _) =
        tokio::join!(terminal::write(&program, b"\r\nafter it"), read(&second, "after it"));
    written.unwrap();
    terminal::write(&second, b"from the second").await.unwrap();
    assert_eq!(read(&program, "second").await, "from the second");
    drop(program);
    timeout(PATIENCE, tap.exited(Exit::Status(0))).await.unwrap();
}

#[test]
fn what_is_kept_is_bounded_and_begins_with_a_line() {
    let mut kept = Kept::default();
    kept.put(b"first\r\nsecond");
    let shown = |kept: &Kept| String::from_utf8(kept.shown()).unwrap();
    assert!(shown(&kept).ends_with("\x1b[2Jfirst\r\nsecond"), "{:?}", shown(&kept));
    for number in 0..KEPT_BYTES_MAX {
        kept.put(format!("\x1b[1mline {number}\r\n").as_bytes());
    }
    assert_eq!(kept.bytes.len(), KEPT_BYTES_MAX);
    let shown = shown(&kept);
    let (_, rest) = shown.split_once("is not kept)\r\n").unwrap();
    assert!(rest.starts_with("\x1b[1mline "), "{:?}", rest.get(..20));
    assert!(rest.ends_with(&format!("line {}\r\n", KEPT_BYTES_MAX - 1)));
    // One line at the end does not cost everything before it.
    let mut kept = Kept::default();
    kept.put(&vec![b'\r'; KEPT_BYTES_MAX]);
    kept.put(b"50 %\n");
    assert!(kept.shown().len() > KEPT_BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_nobody_returns_to_is_hung_up_whoever_writes_to_it() {
    for is_left in [true, false] {
        let tap = tap();
        let (master, slave) = pty();
        let program = watched(slave).unwrap();
        let (client, line) = terminal_of(&tap, SIZE, master).unwrap();
        // Somebody who has it open and is never silent, as no session is.
        let writing = tokio::spawn(async move {
            while terminal::write(&program, b"x").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        if is_left {
            line.leave();
        }
        drop(line);
        if !is_left {
            // As long as its client is there, it gets the last words.
            let client = watched(client).unwrap();
            read(&client, "xxxxx").await;
            assert!(!tap.settled.is_cancelled());
            drop(client);
        }
        timeout(PATIENCE, writing).await.unwrap().unwrap();
        timeout(PATIENCE, tap.settled.cancelled()).await.unwrap();
    }
}

#[test]
fn a_program_that_nobody_reads_is_not_read_faster_than_a_terminal() {
    let size = usize::try_from(ALONE_BYTES_PER_SECOND).unwrap();
    assert_eq!((pause(0), pause(size)), (Duration::ZERO, Duration::from_secs(1)));
    assert!(pause(READ_BYTES) < Duration::from_millis(20));
}

#[test]
fn every_size_has_another_one() {
    for rows in [0, 1, 2, 24, u16::MAX] {
        assert_ne!(other(WindowSize { rows, ..SIZE }), WindowSize { rows, ..SIZE });
    }
}
