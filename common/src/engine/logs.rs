//! What a container wrote to its standard output and error.

use std::fmt;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error as BollardError;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Engine;
use super::error::{EngineError, Request};

#[cfg(test)]
mod tests;

/// Which output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output: at most one line, as the container's process wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFrame {
    /// Where it was written.
    pub source: LogSource,
    /// As written, line ending included.
    pub bytes: Bytes,
}

/// The output of one container from its start on.
pub struct LogStream {
    container: String,
    frames: Pin<Box<dyn Stream<Item = Result<LogOutput, BollardError>> + Send>>,
}

impl fmt::Debug for LogStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogStream")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl LogStream {
    /// The next frame; `None` after the last. Output that is not framed, as that of a container
    /// with a terminal, or cut off, is [`EngineErrorKind::Corrupt`](super::EngineErrorKind::Corrupt).
    pub async fn next(&mut self) -> Option<Result<LogFrame, EngineError>> {
        let output = self.frames.next().await?;
        let request = Request::new("read the output of", "container", &self.container);
        Some(
            output
                .map_err(|error| request.failed(&error))
                .and_then(|output| frame(&request, output)),
        )
    }
}

impl Engine {
    /// The container's output from its start on, until it ends. May be called before it is
    /// started.
    pub fn follow_logs(&self, name: &str) -> Result<LogStream, EngineError> {
        self.logs(name, true)
    }

    /// The output of a container that ended: at most about `bytes_max` from its start.
    pub async fn logs_after_exit(
        &self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Vec<LogFrame>, EngineError> {
        let mut stream = self.logs(name, false)?;
        let mut frames = Vec::new();
        let mut length = 0;
        while length < bytes_max
            && let Some(frame) = stream.next().await
        {
            let frame = frame?;
            length += frame.bytes.len();
            frames.push(frame);
        }
        Ok(frames)
    }

    fn logs(&self, name: &str, follow: bool) -> Result<LogStream, EngineError> {
        let request = Request::new("read the output of", "container", name);
        let options = LogsOptions { follow, stdout: true, stderr: true, ..Default::default() };
        let name = request.checked_name()?;
        let frames = Box::pin(self.docker.logs(name, Some(options)));
        Ok(LogStream { container: name.to_owned(), frames })
    }
}

fn frame(request: &Request<'_>, output: LogOutput) -> Result<LogFrame, EngineError> {
    match output {
        LogOutput::StdOut { message } => Ok(LogFrame { source: LogSource::Stdout, bytes: message }),
        LogOutput::StdErr { message } => Ok(LogFrame { source: LogSource::Stderr, bytes: message }),
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
            Err(request.corrupt("it is not framed: the container has a terminal, or it is cut off"))
        }
    }
}
