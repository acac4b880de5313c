//! Programs that the engine runs in our place: confined as they must be, but without signals, forwards and agents,
//! and without anybody who ends what a client leaves behind.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chores_common::engine::{Engine, Exec, ExecInput, ExecOutput, ExecSpec, ExecState, LogSource};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::terminal::Terminal;
use crate::wire::{self, Exit, Opaque, Program, WindowSize};

/// What the user is told.
pub(super) const NOTICE: &str = "degraded: this session is run by the container engine; signals, forwards and the agent do not work";

/// Bytes that are carried together.
const READ_BYTES: usize = 32 * 1024;
/// How often it is asked how a program ended whose output has ended.
const ASK_PERIOD: Duration = Duration::from_millis(50);
/// How long a program may run on after its output has ended, or when the engine does not say.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);
/// A shell's status for a program that cannot be told from any other failure.
const STATUS_UNKNOWN: u8 = 255;
/// The engine changes the size of a terminal in this time.
const RESIZE_TIME_MAX: Duration = Duration::from_secs(5);
/// Output that waits for a client that is slow: the engine closes the stream soon after the program's end, read or
/// not. In bytes, of each session.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pieces of it.
const WAITING_PIECES_MAX: usize = 16 * 1024;

/// A program that the engine runs.
#[derive(Debug)]
pub(super) struct EngineProgram {
    exit: Result<Exit, oneshot::Receiver<Exit>>,
}

impl EngineProgram {
    /// One that has ended already.
    pub(super) fn ended(exit: Exit) -> Self {
        Self { exit: Ok(exit) }
    }

    /// One whose end is told by the other end of `exit`.
    pub(super) fn told_by(exit: oneshot::Receiver<Exit>) -> Self {
        Self { exit: Err(exit) }
    }

    /// Waits for its end. Safe to drop at its await.
    pub(super) async fn exit(&mut self) -> Exit {
        let exit = match &mut self.exit {
            Ok(exit) => return *exit,
            Err(receiver) => receiver.await.unwrap_or(Exit::Status(STATUS_UNKNOWN)),
        };
        self.exit = Ok(exit);
        exit
    }
}

/// Starts a program. Gives what net gets: one descriptor for a terminal, or three. The error is for the log.
pub(super) async fn start(
    engine: &Engine,
    container: &str,
    user: Option<&str>,
    program: &Program,
    terminal: Option<&wire::Terminal>,
    environment: Vec<Opaque>,
) -> Result<(EngineProgram, Vec<OwnedFd>), String> {
    let spec = spec(user, program, terminal, &environment)?;
    let exec = engine.exec(container, &spec).await.map_err(|error| error.to_string())?;
    let (mut sender, receiver) = oneshot::channel();
    let (engine, id) = (engine.clone(), exec.id.clone());
    let failed = |error: io::Error| error.to_string();
    let descriptors = match terminal {
        Some(asked) => {
            let (ours, master) = Terminal::new(asked.size).map_err(failed)?;
            ours.make_raw().map_err(failed)?;
            let size = asked.size;
            tokio::spawn(async move {
                tokio::select! {
                    () = carry_terminal(&engine, exec, &ours, size) => {}
                    () = sender.closed() => return,
                }
                tell(sender, exit(&engine, &id).await);
            });
            vec![master]
        }
        None => {
            let (input, stdin) = pipe().map_err(failed)?;
            let (stdout, output) = pipe().map_err(failed)?;
            let (stderr, errors) = pipe().map_err(failed)?;
            let input = receiving(input).map_err(failed)?;
            let (output, errors) =
                (sending(output).map_err(failed)?, sending(errors).map_err(failed)?);
            let Exec { output: from, input: to, .. } = exec;
            let feeding = tokio::spawn(feed(input, to));
            tokio::spawn(async move {
                tokio::select! {
                    () = carry(collect(from), output, errors) => {}
                    // What the program does now is nobody's business any more, and it is told nothing more.
                    () = sender.closed() => {
                        feeding.abort();
                        return;
                    }
                }
                let exit = exit(&engine, &id).await;
                feeding.abort();
                tell(sender, exit);
            });
            vec![stdin, stdout, stderr]
        }
    };
    Ok((EngineProgram::told_by(receiver), descriptors))
}

fn spec(
    user: Option<&str>,
    program: &Program,
    terminal: Option<&wire::Terminal>,
    environment: &[Opaque],
) -> Result<ExecSpec, String> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| "the engine takes only UTF-8 text".to_owned())
    };
    let shell = |command: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()];
    let words = match program {
        Program::Shell => shell("exec \"${SHELL:-/bin/sh}\" -l"),
        Program::Command(command) => shell(&text(command)?),
        Program::Words(words) => words.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
        Program::Sftp => shell(SFTP),
        Program::SftpReadOnly => shell(&SFTP.replace("exec \"$server\"", "exec \"$server\" -R")),
        Program::Portal => return Err("the engine runs no portals".to_owned()),
    };
    let mut environment: Vec<String> =
        environment.iter().map(|variable| text(&variable.0)).collect::<Result<_, _>>()?;
    environment.extend(terminal.map(|terminal| format!("TERM={}", terminal.term)));
    let user = user.map(str::to_owned);
    Ok(ExecSpec { words, environment, user, directory: None, terminal: terminal.is_some() })
}

/// Where distributions keep OpenSSH's server.
const SFTP: &str = "for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server \
    /usr/lib/ssh/sftp-server /usr/libexec/sftp-server; do [ -x \"$server\" ] && exec \"$server\"; done; \
    echo 'there is no sftp-server in this container' >&2; exit 127";

fn tell(sender: oneshot::Sender<Exit>, exit: Exit) {
    // Nobody may wait for it any more.
    if sender.send(exit).is_err() {
        tracing::debug!("a program of the engine ended after its session");
    }
}

/// The end of the output is the end of most programs; what runs on without it is not waited for.
async fn exit(engine: &Engine, id: &str) -> Exit {
    let asked = timeout(ASK_TIME_MAX, async {
        loop {
            if let Ok(ExecState { running: false, exit_code: Some(code), .. }) =
                engine.exec_state(id).await
            {
                return code;
            }
            sleep(ASK_PERIOD).await;
        }
    });
    asked.await.map_or(Exit::Status(STATUS_UNKNOWN), of_code)
}

/// Signals cannot be told from statuses above 128, which are what a shell makes of them.
fn of_code(code: i64) -> Exit {
    Exit::Status(u8::try_from(code).unwrap_or(STATUS_UNKNOWN))
}

async fn carry_terminal(engine: &Engine, exec: Exec, ours: &Terminal, first: WindowSize) {
    let Exec { id, output, mut input } = exec;
    let mut output = collect(output);
    let into = async {
        let mut bytes = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = ours.read(&mut bytes).await {
            if input.write(bytes.get(..length).unwrap_or_default()).await.is_err() {
                // The program has ended; what it wrote is still on its way.
                std::future::pending::<()>().await;
            }
        }
    };
    let out = async {
        while let Some(piece) = output.recv().await {
            if ours.write(&piece.bytes).await.is_err() {
                break;
            }
        }
    };
    let sizes = async {
        let mut size = first;
        loop {
            // A program that is just starting has no terminal yet: the next size will do.
            let resized = engine.resize_exec(&id, size.columns, size.rows);
            if !matches!(timeout(RESIZE_TIME_MAX, resized).await, Ok(Ok(()))) {
                tracing::debug!("a terminal is not resized");
            }
            match ours.resized(size).await {
                Ok(new) => size = new,
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = into => {}
        () = out => {}
        () = sizes => {}
    }
}

async fn feed(mut from: Receiver, mut to: ExecInput) {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match from.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if to.write(bytes.get(..length).unwrap_or_default()).await.is_err() {
                    return;
                }
            }
        }
    }
    if let Err(error) = to.close().await {
        tracing::debug!("the end of an input is lost: {error}");
    }
    // The connection must stay open for the output.
    std::future::pending::<()>().await;
}

async fn carry(mut from: mpsc::Receiver<Piece>, mut output: Sender, mut errors: Sender) {
    while let Some(piece) = from.recv().await {
        let written = match piece.source {
            LogSource::Stdout => output.write_all(&piece.bytes).await,
            LogSource::Stderr => errors.write_all(&piece.bytes).await,
        };
        if written.is_err() {
            break;
        }
    }
}

/// Output that waits.
struct Piece {
    source: LogSource,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Takes output from the engine as it comes, while there is room and somebody who wants it.
fn collect(mut output: ExecOutput) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(WAITING_PIECES_MAX);
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
    tokio::spawn(async move {
        while let Some(Ok((source, bytes))) = output.next().await {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let Ok(_room) = Arc::clone(&room).acquire_many_owned(length).await else { return };
            if sender.send(Piece { source, bytes, _room }).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// A pipe: what is read, and what is written.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// The end of a pipe that is read. Needs a tokio runtime.
pub(super) fn receiving(end: OwnedFd) -> io::Result<Receiver> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Receiver::from_owned_fd(end)
}

/// The end of a pipe that is written. Needs a tokio runtime.
pub(super) fn sending(end: OwnedFd) -> io::Result<Sender> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Sender::from_owned_fd(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_statuses() {
        for status in [0, 127, 130, 137, 255] {
            assert_eq!(of_code(status.into()), Exit::Status(status));
        }
        assert_eq!(of_code(-1), Exit::Status(STATUS_UNKNOWN));
    }

    #[test]
    fn only_text_can_be_asked_of_the_engine() {
        let of = |program| spec(Some("app"), &program, None, &[Opaque(b"A=1".to_vec())]);
        let found = of(Program::Command(b"echo hi".to_vec())).unwrap();
        assert_eq!(found.words, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(found.environment, ["A=1"]);
        assert!(!found.terminal);
        assert!(of(Program::Command(b"\xff".to_vec())).is_err());
        assert!(of(Program::Portal).is_err());
    }
}
