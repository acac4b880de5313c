//! Standard output: at least once. What was written when the process dies and not yet noted comes again.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::failure::SinkFailure;
use super::options::{LineFormat, OptionFault, Options, SinkUrl};
use super::{Context, Pace, Sent};
use crate::encode::ndjson::Ndjson;
use crate::encode::{Controls, plain};
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Bytes that are collected before they are written.
const BATCH_BYTES: usize = 256 << 10;

/// How far commits lie apart: after a crash so much comes twice.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// How long one wait for a reader takes before the request to stop is looked at, in seconds.
const WAIT_SECONDS: i64 = 1;

/// How standard output is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdoutSettings {
    /// How lines look.
    pub format: LineFormat,
    /// What is written beside lines.
    pub controls: Controls,
}

impl StdoutSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        if !url.authority.is_empty() || !matches!(url.path.as_str(), "" | "/") {
            return Err(OptionFault::Form("stdout:"));
        }
        let (format, controls) = options.line_format(LineFormat::Ndjson)?;
        Ok(Self { format, controls })
    }
}

/// Writes lines to a file descriptor that cannot be asked what arrived.
#[derive(Debug)]
pub struct Stdout {
    output: OwnedFd,
    settings: StdoutSettings,
    encoder: Ndjson,
    batch: Vec<u8>,
    /// Bytes of the batch that are written.
    written: usize,
}

impl Stdout {
    /// Over standard output.
    pub(super) fn open(settings: StdoutSettings) -> Result<Self, SinkFailure> {
        let output = io::stdout().as_fd().try_clone_to_owned();
        let output =
            output.map_err(|error| SinkFailure::of("cannot use standard output", &error))?;
        Ok(Self::over(output, settings))
    }

    fn over(output: OwnedFd, settings: StdoutSettings) -> Self {
        let encoder = Ndjson::new(settings.controls);
        Self { output, settings, encoder, batch: Vec::new(), written: 0 }
    }

    pub(super) fn pace(&self) -> Pace {
        Pace {
            batch_age: Duration::ZERO,
            commit_every: COMMIT_EVERY,
            settle: Duration::ZERO,
            runs_ahead: false,
        }
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        match self.settings.format {
            LineFormat::Ndjson => self.encoder.encode(frame, from, BATCH_BYTES, &mut self.batch),
            LineFormat::Plain => match plain::whole(frame, from) {
                Some(text) => {
                    self.batch.extend_from_slice(text);
                    frame.block.count()
                }
                None => {
                    let controls = self.settings.controls;
                    plain::encode(frame, from, BATCH_BYTES, controls, &mut self.batch)
                }
            },
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES
    }

    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        while let Some(rest) = self.batch.get(self.written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&self.output, rest) {
                Ok(written) => self.written += written,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if context.stop.is_requested() {
                        return Err(SinkFailure::new("nobody reads standard output"));
                    }
                    self.wait()?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let bytes = self.batch.len() as u64;
        self.batch.clear();
        self.written = 0;
        Ok(Sent { bytes, refused: Vec::new() })
    }

    /// Another process may have made the descriptor, which it shares with us, non-blocking.
    fn wait(&self) -> Result<(), SinkFailure> {
        let mut fds = [PollFd::new(&self.output, PollFlags::OUT)];
        let time = Timespec { tv_sec: WAIT_SECONDS, tv_nsec: 0 };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: rustix::io::Errno) -> SinkFailure {
    let failure = SinkFailure::of("cannot write to standard output", &io::Error::from(error));
    match error {
        // The reader is gone and does not come back.
        rustix::io::Errno::PIPE | rustix::io::Errno::BADF => failure.for_good(),
        _ => failure,
    }
}
