//! Runs shell lines where the database is: in a container, or in our own with its client programs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chores_common::engine::{
    Engine, EngineError, ExecInput, ExecOutput, ExecSpec, ExecState, LogSource,
};
use chores_common::secret::Secret;
use chores_common::shutdown::Shutdown;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::complaint::Complaint;
use super::mark::{Mark, Unmark};
use super::spool::SpoolError;
use crate::database::Script;

/// How long a program may say nothing at all. A server may compute for minutes before the first row.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// How often, and in what time, the engine is asked how a program ended whose output has.
const STATE_ATTEMPTS: u32 = 50;
const STATE_PERIOD: Duration = Duration::from_millis(100);

/// Bytes that are read together from a pipe.
const READ_BYTES: usize = 64 << 10;

/// Most output of a script that asks for facts, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Exit codes of an engine or a shell that found no program (POSIX, "Exit Status for Commands").
const NOT_EXECUTABLE: i64 = 126;
const NOT_FOUND: i64 = 127;

/// Starts of variables with keys of the store and the repository, which no client has to know.
const OURS: [&str; 3] = ["AWS_", "AZURE_", "BACKUP_"];

/// What a shell is asked for first; and the names of the processes of its container: those in its cgroup or below
/// it, as the process namespace may be that of the host.
const LOOK: Script = Script {
    lines: r#"
run() {
  IFS= read -r own </proc/self/cgroup
  for process in /proc/[0-9]*; do
    IFS= read -r group <"$process/cgroup" || continue
    case $group in
      */../*) continue ;;
      "$own"*) ;;
      *) continue ;;
    esac
    IFS= read -r name <"$process/comm" && printf 'process=%s\n' "$name"
  done 2>/dev/null
  return 0
}
"#,
    args: Vec::new(),
    secret: None,
    direct: None,
};

/// Where scripts run.
#[derive(Debug)]
pub enum Door {
    /// In a container.
    Container {
        /// Its engine.
        engine: Engine,
        /// Its id.
        id: String,
        /// Its name, for people.
        name: String,
        /// As `docker exec --user`.
        user: Option<String>,
    },
    /// Here, with these variables beside our own, but without those of the store and the repository.
    Here(Vec<(String, Secret)>),
}

/// Why a script did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The engine said no, or its answer broke off.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is no shell.
    #[error("there is no shell in {0}: give a command behind -- that needs none")]
    NoShell(String),
    /// There is one that does not do what it is told.
    #[error("the shell in {0} cannot be used: {1}")]
    Shell(String, String),
    /// No program can be started here.
    #[error(
        "cannot start a shell: dumps over a network need the image with the clients, backup-dbclients"
    )]
    Start(#[source] io::Error),
    /// A pipe of a program failed.
    #[error("cannot read what the program writes")]
    Pipe(#[source] io::Error),
    /// Nothing came.
    #[error("the program wrote nothing for {} minutes", SILENCE_TIME_MAX.as_secs() / 60)]
    Silent,
    /// It said more than an answer may have.
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Its output cannot be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The system has no random numbers.
    #[error("cannot get random numbers for the end mark: {0}")]
    Random(getrandom::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted: the program was ended, no snapshot was made")]
    Interrupted,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its exit code, as the mark or else the engine tells it.
    pub(super) exit_code: Option<i64>,
    /// The mark was there.
    pub(super) is_marked: bool,
    /// A mark was asked for.
    pub(super) has_shell: bool,
    /// The last words on its standard error.
    pub(super) complaint: String,
    /// Why its output could not be read to its end.
    pub(super) error: Option<String>,
}

impl Ended {
    /// What went wrong, if anything.
    pub(super) fn failure(&self) -> Option<String> {
        if self.error.is_some() {
            return self.error.clone();
        }
        let said = match self.complaint.as_str() {
            "" => String::new(),
            complaint => format!(": {complaint}"),
        };
        match self.exit_code {
            _ if self.has_shell && !self.is_marked => {
                let code = self.exit_code.map_or_else(String::new, |code| {
                    format!(", although the engine reports exit code {code}")
                });
                Some(format!("its output is cut, the mark behind it is missing{code}{said}"))
            }
            Some(0) => None,
            Some(code @ (NOT_EXECUTABLE | NOT_FOUND)) => {
                Some(format!("its program cannot be started (exit code {code}){said}"))
            }
            Some(code) if code > 128 => {
                Some(format!("its program was ended by signal {}{said}", code - 128))
            }
            Some(code) => Some(format!("its program ended with exit code {code}{said}")),
            None => Some(format!("nobody knows how its program ended{said}")),
        }
    }
}

impl Door {
    /// The names of processes where scripts run; `None` where there is no shell.
    pub(super) fn look(
        &self,
        runtime: &Handle,
        shutdown: &Shutdown,
    ) -> Result<Option<Vec<String>>, DoorError> {
        match self.ask(runtime, shutdown, &LOOK) {
            Ok((ended, _)) if ended.failure().is_some() => {
                let problem = ended.failure().unwrap_or_default();
                Err(DoorError::Shell(self.to_string(), problem))
            }
            Ok((_, text)) => {
                let text = String::from_utf8_lossy(&text);
                let names = text.lines().filter_map(|line| line.strip_prefix("process="));
                Ok(Some(names.map(str::to_owned).collect()))
            }
            Err(DoorError::NoShell(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs a script whose output is short.
    pub(super) fn ask(
        &self,
        runtime: &Handle,
        shutdown: &Shutdown,
        script: &Script,
    ) -> Result<(Ended, Vec<u8>), DoorError> {
        let mut text = Vec::new();
        let mut is_too_long = false;
        let ended = self.run(runtime, shutdown, &Shutdown::new(), script, true, &mut |bytes| {
            is_too_long |= text.len() + bytes.len() > ANSWER_BYTES_MAX;
            if is_too_long {
                return Err(SpoolError::Abandoned);
            }
            text.extend_from_slice(bytes);
            Ok(())
        });
        let ended = if is_too_long { Err(DoorError::TooLong) } else { ended }?;
        // The engine's own words come as output of the program.
        let said = String::from_utf8_lossy(&text);
        let is_missing = !ended.is_marked
            && matches!(ended.exit_code, Some(NOT_EXECUTABLE | NOT_FOUND))
            && (said.contains("not found") || said.contains("no such file"));
        match self {
            Self::Container { name, .. } if is_missing => Err(DoorError::NoShell(name.clone())),
            _ => Ok((ended, text)),
        }
    }

    /// Runs a script and gives its output to `take`, piece by piece, without ever waiting for anything else.
    /// With `has_shell` false its direct words are used. `abandoned` ends it even while it says nothing.
    pub(super) fn run(
        &self,
        runtime: &Handle,
        shutdown: &Shutdown,
        abandoned: &Shutdown,
        script: &Script,
        has_shell: bool,
        take: &mut dyn FnMut(&[u8]) -> Result<(), SpoolError>,
    ) -> Result<Ended, DoorError> {
        let mark = Mark::new().map_err(DoorError::Random)?;
        let (words, mark) = match (&script.direct, has_shell) {
            (Some(direct), false) => (direct.clone(), None),
            (None, false) => return Err(DoorError::NoShell(self.to_string())),
            (_, true) => (script.words(mark.text()), Some(mark)),
        };
        let input = mark.as_ref().and_then(|_| script.input());
        runtime.block_on(async {
            let mut program = match self {
                Self::Container { engine, id, user, .. } => {
                    Program::in_container(engine, id, user.clone(), words, shutdown).await?
                }
                Self::Here(environment) => Program::here(&words, environment)?,
            };
            if let Some(input) = input {
                program.write(input.expose().as_bytes()).await?;
            }
            let mut unmark = mark.map(Unmark::new);
            let has_shell = unmark.is_some();
            let mut complaint = Complaint::default();
            loop {
                let next = tokio::select! {
                    biased;
                    () = shutdown.wait() => return Err(DoorError::Interrupted),
                    () = abandoned.wait() => return Err(SpoolError::Abandoned.into()),
                    next = timeout(SILENCE_TIME_MAX, program.next()) => next,
                };
                match next.map_err(|_| DoorError::Silent)?? {
                    Some((LogSource::Stdout, bytes)) => match &mut unmark {
                        Some(unmark) => take(&unmark.push(&bytes))?,
                        None => take(&bytes)?,
                    },
                    Some((LogSource::Stderr, bytes)) => complaint.push(&bytes),
                    None => break,
                }
            }
            let (rest, code) = unmark.map_or((Vec::new(), None), Unmark::finish);
            take(&rest)?;
            let exit_code = match code {
                Some(code) => Some(code),
                None => program.exit_code().await,
            };
            let complaint = complaint.text();
            Ok(Ended { exit_code, is_marked: code.is_some(), has_shell, complaint, error: None })
        })
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container { name, .. } => write!(f, "the container {name}"),
            Self::Here(_) => f.write_str("this container"),
        }
    }
}

/// A running program. Dropping it closes its standard input, on which the lines around it end it.
enum Program<'a> {
    Container {
        engine: &'a Engine,
        exec: String,
        output: ExecOutput,
        input: ExecInput,
    },
    Here {
        child: Option<Child>,
        stdin: Option<pipe::Sender>,
        stdout: Option<pipe::Receiver>,
        stderr: Option<pipe::Receiver>,
    },
}

impl Drop for Program<'_> {
    /// It ends now that its standard input does; somebody has to take note, or it stays as a zombie.
    fn drop(&mut self) {
        if let Self::Here { child, .. } = self
            && let Some(mut child) = child.take()
        {
            let waiting = thread::Builder::new().name("reap".into()).spawn(move || child.wait());
            if let Err(error) = waiting {
                tracing::debug!("a program is not waited for: {error}");
            }
        }
    }
}

impl<'a> Program<'a> {
    async fn in_container(
        engine: &'a Engine,
        id: &str,
        user: Option<String>,
        words: Vec<String>,
        shutdown: &Shutdown,
    ) -> Result<Self, DoorError> {
        let spec = ExecSpec { words, user, ..ExecSpec::default() };
        let started = shutdown.or(engine.exec(id, &spec)).await.ok_or(DoorError::Interrupted)??;
        Ok(Self::Container {
            engine,
            exec: started.id,
            output: started.output,
            input: started.input,
        })
    }

    fn here(words: &[String], environment: &[(String, Secret)]) -> Result<Self, DoorError> {
        let (program, arguments) = words.split_first().ok_or_else(|| {
            DoorError::Start(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))
        })?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if OURS.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(DoorError::Start)?;
        let receiver = |end: Option<OwnedFd>| {
            end.map(pipe::Receiver::from_owned_fd).transpose().map_err(DoorError::Pipe)
        };
        let stdin = child.stdin.take().map(OwnedFd::from).map(pipe::Sender::from_owned_fd);
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        let (stdout, stderr) = (receiver(out)?, receiver(err)?);
        Ok(Self::Here {
            stdin: stdin.transpose().map_err(DoorError::Pipe)?,
            stdout,
            stderr,
            child: Some(child),
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), DoorError> {
        use tokio::io::AsyncWriteExt as _;
        match self {
            Self::Container { input, .. } => input.write(bytes).await,
            Self::Here { stdin: Some(stdin), .. } => stdin.write_all(bytes).await,
            Self::Here { stdin: None, .. } => Ok(()),
        }
        .map_err(DoorError::Pipe)
    }

    /// The next piece of either output; `None` after the last.
    async fn next(&mut self) -> Result<Option<(LogSource, Bytes)>, DoorError> {
        match self {
            Self::Container { output, .. } => Ok(output.next().await.transpose()?),
            Self::Here { stdout, stderr, .. } => loop {
                let (mut out, mut err) = (BytesMut::new(), BytesMut::new());
                let (source, read) = tokio::select! {
                    read = read(stdout, &mut out) => (LogSource::Stdout, read),
                    read = read(stderr, &mut err) => (LogSource::Stderr, read),
                };
                let is_end = read.map_err(DoorError::Pipe)? == 0;
                match source {
                    LogSource::Stdout if is_end => *stdout = None,
                    LogSource::Stderr if is_end => *stderr = None,
                    LogSource::Stdout => return Ok(Some((source, out.freeze()))),
                    LogSource::Stderr => return Ok(Some((source, err.freeze()))),
                }
                if stdout.is_none() && stderr.is_none() {
                    return Ok(None);
                }
            },
        }
    }

    /// How it ended, where only the engine can tell.
    async fn exit_code(&self) -> Option<i64> {
        let Self::Container { engine, exec, .. } = self else { return None };
        for _ in 0..STATE_ATTEMPTS {
            match engine.exec_state(exec).await {
                Ok(ExecState { running: false, exit_code, .. }) => return exit_code,
                Ok(_) => sleep(STATE_PERIOD).await,
                Err(error) => {
                    tracing::debug!("{error}");
                    return None;
                }
            }
        }
        None
    }
}

/// Reads what is there; never ends where there is nothing to read from.
async fn read(pipe: &mut Option<pipe::Receiver>, bytes: &mut BytesMut) -> io::Result<usize> {
    match pipe {
        Some(pipe) => {
            bytes.reserve(READ_BYTES);
            pipe.read_buf(bytes).await
        }
        None => std::future::pending().await,
    }
}
