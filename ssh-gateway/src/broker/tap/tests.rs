use std::io::Write as _;
use std::os::fd::AsFd as _;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcsetattr};
use tokio::io::unix::AsyncFd;

use super::super::journal::Journal;
use super::super::recording::{DIRECTORY, Recordings, Subject};
use super::*;
use crate::cast::{self, Event};
use crate::config::RecordConfig;
use crate::host_keys::AUDIT_DIRECTORY;

const SIZE: WindowSize = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };

struct Scene {
    state: tempfile::TempDir,
    tap: Arc<Tap>,
    end: CancellationToken,
}

fn scene(record: Record, unrecorded: Unrecorded, scope: Scope, config: &RecordConfig) -> Scene {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let journal = Journal::start(state.path(), key, 1 << 20).unwrap();
    let recordings = Recordings::new(state.path(), config, journal);
    let [session, container, title] = ["s", "web", "title"].map(str::to_owned);
    let subject = Subject { session, container, title, size: SIZE };
    let recording = recordings.begin(subject).unwrap();
    let end = CancellationToken::new();
    let tap = Arc::new(Tap::new(Some(recording), record, unrecorded, scope, end.clone()));
    Scene { state, tap, end }
}

impl Scene {
    /// The events of one code, once nobody records any more.
    async fn recorded(self, code: &str) -> Vec<String> {
        let path = self.state.path().join(DIRECTORY).join(self.tap.name().unwrap());
        drop(self.tap);
        let audit = self.state.path().join(AUDIT_DIRECTORY).join("audit-00000001.jsonl");
        while !std::fs::read_to_string(&audit).is_ok_and(|text| text.contains("sha256")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = zstd::decode_all(std::fs::read(path).unwrap().as_slice()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let events = text.lines().skip(1).map(|line| Event::parse(line.as_bytes()).unwrap());
        events.filter(|event| event.code == code).map(|event| event.data).collect()
    }
}

/// The two sides of a program's terminal.
fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

async fn read(from: &AsyncFd<OwnedFd>, until: &str) -> String {
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    while !seen.contains(until) {
        let length = terminal::read(from, &mut bytes).await.unwrap();
        assert_ne!(length, 0, "{seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_blindly_is_never_recorded() {
    let scene = scene(Record::Input, Unrecorded::Refuse, Scope::Whole, &RecordConfig::default());
    let (master, slave) = pty();
    let client = watched(terminal(&scene.tap, SIZE, master).unwrap()).unwrap();
    terminal::write(&client, b"seen\r").await.unwrap();
    read(&client, "seen").await;
    let slave = watched(slave).unwrap();
    read(&slave, "seen").await;
    let mut attributes = tcgetattr(slave.get_ref()).unwrap();
    attributes.local_modes -= LocalModes::ECHO;
    tcsetattr(slave.get_ref(), OptionalActions::Now, &attributes).unwrap();
    terminal::write(&client, b"secret\r").await.unwrap();
    read(&slave, "secret").await;
    terminal::write(&slave, b"ok\n").await.unwrap();
    read(&client, "ok").await;
    scene.tap.exited(Exit::Status(0)).await;
    // The client reads what is left, and then the end.
    drop((client, slave));
    assert_eq!(scene.recorded(cast::INPUT).await, ["seen\r"]);
}

fn echo(terminal: &AsyncFd<OwnedFd>, is_on: bool) {
    let mut attributes = tcgetattr(terminal.get_ref()).unwrap();
    attributes.local_modes.set(LocalModes::ECHO, is_on);
    // Not line by line: what is written waits for room.
    attributes.local_modes -= LocalModes::ICANON;
    tcsetattr(terminal.get_ref(), OptionalActions::Now, &attributes).unwrap();
}

/// A program may turn the echo off while the disk is waited for, or the program itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_typed_before_the_echo_was_off_and_arrives_after_it_is_not_recorded() {
    let scene = scene(Record::Input, Unrecorded::Refuse, Scope::Whole, &RecordConfig::default());
    let (master, slave) = pty();
    let (theirs, program) = (watched(master).unwrap(), watched(slave).unwrap());
    let mut is_taken = true;
    {
        let full = scene.tap.recording.as_ref().unwrap().fill();
        echo(&program, true);
        let mut handing = std::pin::pin!(scene.tap.input(b"secret", &theirs, &mut is_taken));
        let waits = timeout(Duration::from_millis(20), handing.as_mut()).await;
        assert!(waits.is_err(), "there is no room");
        echo(&program, false);
        drop(full);
        handing.await.unwrap();
    }
    read(&program, "secret").await;
    // Nobody reads, so that not all of it is with the terminal.
    {
        echo(&program, true);
        let more = vec![b'x'; 1 << 20];
        let mut handing = std::pin::pin!(scene.tap.input(&more, &theirs, &mut is_taken));
        let waits = timeout(Duration::from_millis(50), handing.as_mut()).await;
        assert!(waits.is_err(), "it is handed over already");
        echo(&program, false);
        let mut left = more.len();
        let reading = async {
            let mut bytes = vec![0; READ_BYTES];
            while left > 0 {
                left -= terminal::read(&program, &mut bytes).await.unwrap();
            }
        };
        let (handed, ()) = tokio::join!(handing, reading);
        handed.unwrap();
    }
    echo(&program, true);
    scene.tap.input(b"seen", &theirs, &mut is_taken).await.unwrap();
    assert!(is_taken);
    assert_eq!(scene.recorded(cast::INPUT).await, ["seen"]);
}

/// Its client goes while the program takes it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_has_of_something_typed_is_recorded_although_the_rest_never_comes() {
    for is_seen in [true, false] {
        let config = RecordConfig::default();
        let scene = scene(Record::Input, Unrecorded::Refuse, Scope::Whole, &config);
        let (master, slave) = pty();
        let (theirs, program) = (watched(master).unwrap(), watched(slave).unwrap());
        echo(&program, true);
        let typed = vec![b'x'; 1 << 20];
        let mut is_taken = true;
        {
            let mut handing = std::pin::pin!(scene.tap.input(&typed, &theirs, &mut is_taken));
            let waits = timeout(Duration::from_millis(50), handing.as_mut()).await;
            assert!(waits.is_err(), "all of it has room in the terminal");
            echo(&program, is_seen);
        }
        let recorded = scene.recorded(cast::INPUT).await.concat();
        let mut bytes = vec![0; READ_BYTES];
        let mut taken = 0;
        let reading = async {
            loop {
                taken += terminal::read(&program, &mut bytes).await.unwrap();
            }
        };
        assert!(timeout(Duration::from_millis(200), reading).await.is_err());
        assert!(taken > 0);
        assert_eq!(recorded.len(), if is_seen { taken } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_pass_and_are_recorded() {
    let scene = scene(Record::Output, Unrecorded::Refuse, Scope::Whole, &RecordConfig::default());
    let (master, slave) = pty();
    let client = terminal(&scene.tap, SIZE, master).unwrap();
    let mut live = scene.tap.watch();
    let size = WindowSize { columns: 100, rows: 30, width: 0, height: 0 };
    tcsetwinsize(client.as_fd(), terminal::winsize(size)).unwrap();
    match live.recv().await.unwrap() {
        Live::Size(seen) => assert_eq!(seen, size),
        other => panic!("{other:?}"),
    }
    let found = rustix::termios::tcgetwinsize(&slave).unwrap();
    assert_eq!((found.ws_col, found.ws_row), (100, 30));
    terminal::write(&watched(slave).unwrap(), b"last words").await.unwrap();
    scene.tap.exited(Exit::Status(3)).await;
    let client = watched(client).unwrap();
    assert_eq!(read(&client, "words").await, "last words");
    drop(client);
    assert_eq!(scene.recorded(cast::EXIT).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commands_text_is_recorded_and_not_too_much() {
    for (output, wanted, mark) in [
        (b"text\n".to_vec(), "text\n".to_owned(), None),
        (b"a\0binary".to_vec(), "a".to_owned(), Some(BINARY)),
        (vec![b'x'; 3 << 19], "x".repeat(1 << 20), Some(TOO_MUCH)),
    ] {
        let scene =
            scene(Record::Output, Unrecorded::Refuse, Scope::Text, &RecordConfig::default());
        let (from, program) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (nothing, errors) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(errors);
        let [client, _errors] = pipes(&scene.tap, from, nothing).unwrap();
        rustix::io::ioctl_fionbio(&client, true).unwrap();
        let mut client = Receiver::from_owned_fd(client).unwrap();
        let all = output.clone();
        let writing = std::thread::spawn(move || {
            let mut program = std::fs::File::from(program);
            program.write_all(&all).unwrap();
        });
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).await.unwrap();
        writing.join().unwrap();
        assert!(seen == output, "{} bytes of {}", seen.len(), output.len());
        assert_eq!(*scene.tap.room.lock().unwrap() == Room::Over, mark.is_some(), "{mark:?}");
        let recorded = scene.recorded(cast::OUTPUT).await.concat();
        assert!(recorded == wanted, "{} bytes, {mark:?}", recorded.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_lost_ends_the_session_or_does_not() {
    let config = RecordConfig { largest: 64 * 1024, ..RecordConfig::default() };
    for (unrecorded, ends) in [(Unrecorded::Refuse, true), (Unrecorded::Allow, false)] {
        let scene = scene(Record::Output, unrecorded, Scope::Whole, &config);
        let (master, slave) = pty();
        let client = watched(terminal(&scene.tap, SIZE, master).unwrap()).unwrap();
        let mut attributes = tcgetattr(&slave).unwrap();
        attributes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &attributes).unwrap();
        let program = watched(slave).unwrap();
        let writing = async {
            let mut noise = vec![0; 4096];
            for _ in 0..256 {
                getrandom::fill(&mut noise).unwrap();
                if terminal::write(&program, &noise).await.is_err() {
                    return;
                }
            }
            terminal::write(&program, b"to the end").await.unwrap();
        };
        let reading = async {
            let mut seen = Vec::new();
            let mut bytes = [0; 4096];
            let wanted: &[u8] = if ends { b"so it ends here" } else { b"to the end" };
            while !seen.windows(wanted.len()).any(|window| window == wanted) {
                match terminal::read(&client, &mut bytes).await.unwrap() {
                    0 => panic!("{} bytes and no word", seen.len()),
                    length => seen.extend_from_slice(&bytes[..length]),
                }
                // Only the end is looked at.
                let old = seen.len().saturating_sub(8192);
                seen.drain(..old);
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(writing, reading) } => {}
            () = async { scene.end.cancelled().await; std::future::pending().await } => {}
        }
        assert_eq!(scene.end.is_cancelled(), ends);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_output_has_lost_the_other_one_does_not_say_either() {
    let config = RecordConfig { largest: 64 * 1024, ..RecordConfig::default() };
    for (unrecorded, wanted) in [(Unrecorded::Refuse, ""), (Unrecorded::Allow, "more")] {
        let scene = scene(Record::Output, unrecorded, Scope::Whole, &config);
        let (from, program) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (errors_from, errors) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let given = pipes(&scene.tap, from, errors_from).unwrap();
        let mut readers = Vec::new();
        for end in given {
            rustix::io::ioctl_fionbio(&end, true).unwrap();
            readers.push(Receiver::from_owned_fd(end).unwrap());
        }
        let mut noise = vec![0; 512 * 1024];
        getrandom::fill(&mut noise).unwrap();
        let tap = Arc::clone(&scene.tap);
        let losing = async {
            let mut ignored = Vec::new();
            readers[1].read_to_end(&mut ignored).await.unwrap();
        };
        let its = Arc::clone(&tap);
        let writing = tokio::task::spawn_blocking(move || {
            let mut errors = std::fs::File::from(errors);
            // The reader may have gone meanwhile.
            while !its.is_lost.load(Ordering::Relaxed) && errors.write_all(&noise).is_ok() {
                std::thread::yield_now();
            }
        });
        losing.await;
        writing.await.unwrap();
        assert!(tap.is_lost.load(Ordering::Relaxed));
        // Nobody may read it any more.
        rustix::io::write(&program, b"more").ok();
        drop(program);
        let mut said = String::new();
        readers[0].read_to_string(&mut said).await.unwrap();
        assert_eq!((said.as_str(), scene.end.is_cancelled()), (wanted, wanted.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_waits_for_no_client() {
    let scene = scene(Record::Output, Unrecorded::Refuse, Scope::Whole, &RecordConfig::default());
    let (master, slave) = pty();
    let client = terminal(&scene.tap, SIZE, master).unwrap();
    let program = watched(slave).unwrap();
    // More than all buffers hold: nobody reads it.
    let writing = async {
        let bytes = vec![b'x'; 1 << 20];
        terminal::write(&program, &bytes).await.unwrap();
    };
    assert!(timeout(Duration::from_millis(100), writing).await.is_err());
    let exited = scene.tap.exited(Exit::Status(0));
    let mut exited = std::pin::pin!(exited);
    assert!(timeout(Duration::from_millis(200), exited.as_mut()).await.is_err());
    scene.tap.cutter().cancel();
    exited.await;
    drop(client);
}
