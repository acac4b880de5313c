//! Programs that the engine runs in our place: confined as they must be, but without signals, forwards and agents,
//! and without anybody who ends what a client leaves behind.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use chores_common::engine::{Engine, Exec, ExecInput, ExecOutput, ExecSpec, ExecState, LogSource};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;
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
/// Above it, the engine's exit code is a signal's number.
const SIGNALLED: i64 = 128;

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
    let (sender, receiver) = oneshot::channel();
    let (engine, id) = (engine.clone(), exec.id.clone());
    let failed = |error: io::Error| error.to_string();
    let descriptors = match terminal {
        Some(asked) => {
            let (ours, master) = Terminal::new(asked.size).map_err(failed)?;
            ours.make_raw().map_err(failed)?;
            let size = asked.size;
            tokio::spawn(async move {
                carry_terminal(&engine, exec, &ours, size).await;
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
                carry(from, output, errors).await;
                let exit = exit(&engine, &id).await;
                feeding.abort();
                tell(sender, exit);
            });
            vec![stdin, stdout, stderr]
        }
    };
    Ok((EngineProgram { exit: Err(receiver) }, descriptors))
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

fn of_code(code: i64) -> Exit {
    match code - SIGNALLED {
        number @ 1..=64 => {
            Exit::Signal { number: i32::try_from(number).unwrap_or_default(), core_dumped: false }
        }
        _ => Exit::Status(u8::try_from(code).unwrap_or(STATUS_UNKNOWN)),
    }
}

async fn carry_terminal(engine: &Engine, exec: Exec, ours: &Terminal, first: WindowSize) {
    let Exec { id, mut output, mut input } = exec;
    let into = async {
        let mut bytes = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = ours.read(&mut bytes).await {
            if input.write(bytes.get(..length).unwrap_or_default()).await.is_err() {
                break;
            }
        }
    };
    let out = async {
        while let Some(Ok((_, bytes))) = output.next().await {
            if ours.write(&bytes).await.is_err() {
                break;
            }
        }
    };
    let sizes = async {
        let mut size = first;
        loop {
            // A program that is just starting has no terminal yet: the next size will do.
            if let Err(error) = engine.resize_exec(&id, size.columns, size.rows).await {
                tracing::debug!("a terminal is not resized: {error}");
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

async fn carry(mut from: ExecOutput, mut output: Sender, mut errors: Sender) {
    while let Some(Ok((source, bytes))) = from.next().await {
        let written = match source {
            LogSource::Stdout => output.write_all(&bytes).await,
            LogSource::Stderr => errors.write_all(&bytes).await,
        };
        if written.is_err() {
            break;
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

fn receiving(end: OwnedFd) -> io::Result<Receiver> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Receiver::from_owned_fd(end)
}

fn sending(end: OwnedFd) -> io::Result<Sender> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Sender::from_owned_fd(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_above_128_are_signals() {
        assert_eq!(of_code(0), Exit::Status(0));
        assert_eq!(of_code(127), Exit::Status(127));
        assert_eq!(of_code(137), Exit::Signal { number: 9, core_dumped: false });
        assert_eq!(of_code(128), Exit::Status(128));
        assert_eq!(of_code(255), Exit::Status(255));
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
