//! Programs that the engine runs in a container (`docker exec`).
//!
//! The client library tells framed output from that of a terminal by its first byte, which a program chooses; so
//! the start is asked for here, and the frames are read by what was asked for.

use std::fmt;
use std::io;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Engine;
use super::error::{EngineError, EngineErrorKind, Request};
use super::logs::LogSource;
use super::raw_logs::Socket;

#[cfg(test)]
mod tests;

/// How long the engine may take to start a program. It may hang for ever: a container whose `/etc/passwd` is a
/// FIFO is enough.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes of an error's text that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read together.
const READ_BYTES: usize = 64 << 10;
/// `[stream, 0, 0, 0, length…]` (Docker Engine API, ContainerAttach, "Stream format").
const HEADER_BYTES: usize = 8;

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub words: Vec<String>,
    /// `NAME=value`, beside the container's own.
    pub environment: Vec<String>,
    /// As `docker exec --user`; `None` is the user of the container.
    pub user: Option<String>,
    /// Where; `None` is the directory of the container.
    pub directory: Option<String>,
    /// With a terminal.
    pub terminal: bool,
}

/// A program that was started.
#[derive(Debug)]
pub struct Exec {
    /// By which its state is asked for.
    pub id: String,
    /// What it writes.
    pub output: ExecOutput,
    /// What it reads.
    pub input: ExecInput,
}

/// What a program did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecState {
    /// It has not ended.
    pub running: bool,
    /// How it ended: 128 and the signal's number for a killed one.
    pub exit_code: Option<i64>,
    /// Its process on the host.
    pub pid: Option<i64>,
}

/// Output of a program.
pub struct ExecOutput {
    container: String,
    stream: ReadHalf<TokioIo<Upgraded>>,
    frames: Frames,
}

impl fmt::Debug for ExecOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExecOutput")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

/// Input of a program.
pub struct ExecInput {
    stream: WriteHalf<TokioIo<Upgraded>>,
}

impl fmt::Debug for ExecInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecInput").finish_non_exhaustive()
    }
}

impl ExecOutput {
    /// The next piece; `None` after the last. Everything of a terminal is standard output. Safe to drop at its await.
    pub async fn next(&mut self) -> Option<Result<(LogSource, Bytes), EngineError>> {
        loop {
            match self.frames.next() {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) => {}
                Err(reason) => return Some(Err(self.request().corrupt(reason))),
            }
            self.frames.buffer.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.frames.buffer).await {
                Ok(0) if self.frames.is_between() => return None,
                Ok(0) => return Some(Err(self.request().corrupt("it breaks off"))),
                Ok(_) => {}
                Err(error) => {
                    return Some(Err(self.request().unreachable(error.kind(), &error)));
                }
            }
        }
    }

    fn request(&self) -> Request<'_> {
        Request::new("read the output of a program in", "container", &self.container)
    }
}

impl ExecInput {
    /// Writes all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The program reads the end of file; its output goes on.
    pub async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Cuts what the engine sends.
#[derive(Debug)]
struct Frames {
    is_framed: bool,
    buffer: BytesMut,
    /// What is still to come of a frame.
    left: usize,
    source: LogSource,
}

impl Frames {
    fn new(is_framed: bool) -> Self {
        Self { is_framed, buffer: BytesMut::new(), left: 0, source: LogSource::Stdout }
    }

    fn is_between(&self) -> bool {
        self.left == 0 && self.buffer.is_empty()
    }

    /// What is there of the next piece: frames may be cut, since no reader cares.
    fn next(&mut self) -> Result<Option<(LogSource, Bytes)>, &'static str> {
        if !self.is_framed {
            let piece = self.buffer.split().freeze();
            return Ok((!piece.is_empty()).then_some((LogSource::Stdout, piece)));
        }
        while self.left == 0 {
            let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
            let [stream, zeros @ .., _, _, _, _] = *header;
            let [.., a, b, c, d] = *header;
            self.source = match (stream, zeros) {
                (0 | 1, [0, 0, 0]) => LogSource::Stdout,
                (2, [0, 0, 0]) => LogSource::Stderr,
                _ => return Err("it is not framed as it must be"),
            };
            let length = [a, b, c, d];
            self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            self.buffer.advance(HEADER_BYTES);
        }
        let piece = self.buffer.split_to(self.left.min(self.buffer.len())).freeze();
        self.left -= piece.len();
        Ok((!piece.is_empty()).then_some((self.source, piece)))
    }
}

impl Engine {
    /// Runs a program in a running container, with all its streams. Dropping it closes them; it does not end the
    /// program.
    pub async fn exec(&self, container: &str, spec: &ExecSpec) -> Result<Exec, EngineError> {
        let request = Request::new("run a program in", "container", container);
        let slow =
            |_| request.error(EngineErrorKind::Timeout, "the engine does not answer in time");
        timeout(START_TIME_MAX, self.start_exec(&request, spec)).await.map_err(slow)?
    }

    async fn start_exec(
        &self,
        request: &Request<'_>,
        spec: &ExecSpec,
    ) -> Result<Exec, EngineError> {
        let name = request.checked_name()?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(spec.terminal),
            env: Some(spec.environment.clone()),
            cmd: Some(spec.words.clone()),
            privileged: Some(false),
            user: spec.user.clone(),
            working_dir: spec.directory.clone(),
            ..Default::default()
        };
        let created = self.docker.create_exec(name, options).await;
        let id = created.map_err(|error| request.failed(&error))?.id;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(request.corrupt("the engine gives no id"));
        }
        let stream = self.attach_exec(request, &id, spec.terminal).await?;
        let (reader, writer) = tokio::io::split(TokioIo::new(stream));
        let frames = Frames::new(!spec.terminal);
        let output = ExecOutput { container: name.to_owned(), stream: reader, frames };
        Ok(Exec { id, output, input: ExecInput { stream: writer } })
    }

    async fn attach_exec(
        &self,
        request: &Request<'_>,
        id: &str,
        terminal: bool,
    ) -> Result<Upgraded, EngineError> {
        let body = format!(r#"{{"Detach":false,"Tty":{terminal}}}"#);
        let asked = hyper::Request::post(format!("/exec/{id}/start"))
            .header(HOST, "docker")
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| request.invalid(&error.to_string()))?;
        let socket = Socket::connect(&self.host)
            .await
            .map_err(|error| request.unreachable(error.kind(), &error))?;
        let shaken = http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = shaken.map_err(|error| request.broken(&error))?;
        // It ends with the sender, or when the stream is handed over.
        tokio::spawn(connection.with_upgrades());
        let mut answer =
            sender.send_request(asked).await.map_err(|error| request.broken(&error))?;
        let status = answer.status();
        if status == hyper::StatusCode::SWITCHING_PROTOCOLS || status == hyper::StatusCode::OK {
            return hyper::upgrade::on(&mut answer).await.map_err(|error| request.broken(&error));
        }
        let text = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        Err(request.answered(status.as_u16(), &String::from_utf8_lossy(&text)))
    }

    /// What a program of [`Engine::exec`] did so far.
    pub async fn exec_state(&self, id: &str) -> Result<ExecState, EngineError> {
        let request = Request::new("inspect", "program", id);
        let id = request.checked_name()?;
        let answer = self.docker.inspect_exec(id).await.map_err(|error| request.failed(&error))?;
        Ok(ExecState {
            running: answer.running.unwrap_or(false),
            exit_code: answer.exit_code,
            pid: answer.pid.filter(|pid| *pid > 0),
        })
    }

    /// Changes the size of the terminal of [`Engine::exec`].
    pub async fn resize_exec(&self, id: &str, columns: u16, rows: u16) -> Result<(), EngineError> {
        let request = Request::new("resize the terminal of", "program", id);
        let id = request.checked_name()?;
        let size = ResizeExecOptions { height: rows, width: columns };
        self.docker.resize_exec(id, size).await.map_err(|error| request.failed(&error))
    }
}
