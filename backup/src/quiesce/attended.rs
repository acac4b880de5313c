//! A worker's side: its program tells the one that started it when to begin and when all was read.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;

use super::message::{FromParent, LINE_BYTES_MAX, ToParent, from_line};
use crate::create::{CreateError, Stillness};

/// How long an answer may take: the stop timeouts and hooks of many containers.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often the request to stop is looked at meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Lines that wait to be looked at.
const LINES_MAX: usize = 16;

/// The program that started this worker, at the other end of standard input and output.
#[derive(Debug)]
pub struct Attended {
    lines: Receiver<String>,
    shutdown: Shutdown,
}

/// What is wrong with the program that started this worker.
#[derive(Debug, thiserror::Error)]
enum ParentError {
    #[error(
        "the program that started this worker is gone, so nobody says whether the containers hold still: no snapshot was made"
    )]
    Gone,
    #[error(
        "the program that started this worker does not speak its language: is the worker's image of another version?"
    )]
    Unknown,
    #[error("the program that started this worker does not answer")]
    Silent,
    #[error("cannot write to the program that started this worker")]
    Write(#[source] io::Error),
}

impl Attended {
    /// Begins to listen to standard input.
    pub fn listen(shutdown: Shutdown) -> Result<Self, CreateError> {
        let (sender, lines) = sync_channel(LINES_MAX);
        let listening = move || {
            let mut input = BufReader::new(io::stdin());
            loop {
                let mut line = String::new();
                match input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                    Ok(1..) if sender.send(line).is_ok() => {}
                    _ => return,
                }
            }
        };
        thread::Builder::new()
            .name("parent".into())
            .spawn(listening)
            .map_err(CreateError::Thread)?;
        Ok(Self { lines, shutdown })
    }

    fn ask(&self, message: ToParent) -> Result<FromParent, CreateError> {
        let failed = |error| CreateError::Still(Box::new(error));
        let mut out = io::stdout().lock();
        out.write_all(message.to_line().as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| failed(ParentError::Write(error)))?;
        drop(out);
        let asked = Instant::now();
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(line) => {
                    return from_line(line.trim_end()).ok_or_else(|| failed(ParentError::Unknown));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(failed(ParentError::Gone)),
                Err(RecvTimeoutError::Timeout) if self.shutdown.is_requested() => {
                    return Err(CreateError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if asked.elapsed() > ANSWER_TIME_MAX => {
                    return Err(failed(ParentError::Silent));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Stillness for Attended {
    fn begin(&mut self) -> Result<(), CreateError> {
        match self.ask(ToParent::Ready)? {
            FromParent::Held => Ok(()),
            FromParent::Released { .. } => Err(CreateError::Still(Box::new(ParentError::Unknown))),
        }
    }

    fn end(&mut self) -> Result<Vec<String>, CreateError> {
        match self.ask(ToParent::Read)? {
            FromParent::Released { warnings } => Ok(warnings),
            FromParent::Held => Err(CreateError::Still(Box::new(ParentError::Unknown))),
        }
    }
}
