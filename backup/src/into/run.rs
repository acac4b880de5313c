//! One program in the target: fed with a dump, its real end known.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use chores_common::engine::{Engine, EngineError, ExecSpec, LogSource};
use chores_common::shutdown::Shutdown;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use crate::database::feed::Feed;

#[cfg(test)]
mod tests;

/// Last part of what a program says on standard error that is kept, in bytes.
const ERRORS_BYTES_MAX: usize = 1 << 20;

/// Last part of its standard output that is kept, in bytes: a line or two for each of 100,000 tables.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Longest item that is shown, in characters.
const ITEM_CHARS_MAX: usize = 256;

/// Last lines of what a failed program said that are shown.
const SAID_LINES_MAX: usize = 5;

/// How long a program may take to put things back after the request to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// What a program said and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i64,
    /// Bytes of its input that it left unread, where it ended well.
    pub(crate) rest: u64,
    /// The last part of its standard output, without the mark.
    pub(crate) output: Vec<u8>,
    /// Its standard output is longer than that.
    pub(crate) is_cut: bool,
    /// The last part of its standard error.
    pub(crate) errors: Vec<u8>,
}

/// Why it is not known how it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started, or its output could not be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It cannot be told how it ended.
    #[error("the program in {container} ended without a word about how: was it killed?{said}")]
    NoMark {
        /// The target.
        container: String,
        /// What it said before, as the end of the sentence.
        said: String,
    },
    /// The system has no random numbers.
    #[error("cannot get random numbers for the mark behind an output: {0}")]
    Random(getrandom::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Said {
    /// Whether it ended well and read all of its input.
    pub(crate) fn is_good(&self) -> bool {
        self.code == 0 && self.rest == 0
    }

    /// Why it is not good: the last lines of what it said.
    pub(crate) fn complaint(&self) -> String {
        let said = last_lines(&self.errors);
        match (self.code, said.is_empty()) {
            (0, _) => format!("it left {} bytes of the dump unread", self.rest),
            (code, true) => format!("it ended with status {code}"),
            (code, false) => format!("it ended with status {code}: {said}"),
        }
    }

    /// What stands behind `name=` in the lines of its output, as it can be shown.
    pub(crate) fn items(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.output);
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.map(shown).collect()
    }
}

/// A name that a container gave, without control characters and of bounded length.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(ITEM_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The last lines of a text in one, without control characters.
pub(crate) fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(SAID_LINES_MAX)..).unwrap_or_default();
    last.join("; ").replace(char::is_control, " ")
}

/// Runs lines in a container with `content` as their input, and waits for their end.
pub(crate) async fn run(
    engine: &Engine,
    container: &str,
    feed: &Feed,
    content: Option<Receiver<Bytes>>,
    shutdown: &Shutdown,
) -> Result<Said, RunError> {
    let random = || getrandom::u64().map_err(RunError::Random);
    let mark = format!("chores-{:016x}{:016x}", random()?, random()?);
    let spec = ExecSpec { words: feed.words(&mark), ..ExecSpec::default() };
    let exec = engine.exec(container, &spec).await?;
    let (mut input, mut output) = (exec.input, exec.output);
    let writing = async {
        if let Some(secret) = feed.input() {
            input.write(secret.expose().as_bytes()).await?;
        }
        if let Some(mut content) = content {
            while let Some(piece) = content.recv().await {
                input.write(&piece).await?;
            }
        }
        input.close().await
    };
    let reading = async {
        let mut said = Said::default();
        while let Some(piece) = output.next().await {
            let (source, bytes) = piece?;
            match source {
                LogSource::Stdout => {
                    said.is_cut |= keep(&mut said.output, &bytes, OUTPUT_BYTES_MAX);
                }
                LogSource::Stderr => {
                    keep(&mut said.errors, &bytes, ERRORS_BYTES_MAX);
                }
            }
        }
        Ok::<_, EngineError>(said)
    };
    let stopping = async {
        shutdown.wait().await;
        sleep(STOP_TIME_MAX).await;
    };
    let said = join(writing, reading, stopping).await.ok_or(RunError::Interrupted)??;
    ended(&mark, said).map_err(|said| {
        let said = last_lines(&said.errors);
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        RunError::NoMark { container: container.to_owned(), said }
    })
}

/// Until there is nothing more to read. A program that has ended takes no more input, which is no error: how it
/// ended says what that means.
async fn join<T>(
    writing: impl Future<Output = io::Result<()>>,
    reading: impl Future<Output = T>,
    stopping: impl Future<Output = ()>,
) -> Option<T> {
    tokio::pin!(writing, reading, stopping);
    let mut is_written = false;
    loop {
        tokio::select! {
            biased;
            read = &mut reading => return Some(read),
            written = &mut writing, if !is_written => {
                is_written = true;
                if let Err(error) = written {
                    tracing::debug!("the program takes no more input: {error}");
                }
            }
            () = &mut stopping => return None,
        }
    }
}

/// Keeps the end; whether something of the beginning is gone.
fn keep(kept: &mut Vec<u8>, piece: &[u8], most: usize) -> bool {
    kept.extend_from_slice(piece);
    let surplus = kept.len().saturating_sub(most);
    kept.drain(..surplus);
    surplus > 0
}

/// Takes the mark off; what was said comes back where it is not whole.
fn ended(mark: &str, mut said: Said) -> Result<Said, Said> {
    let text = String::from_utf8_lossy(&said.output);
    let marked = text.strip_suffix('\n').and_then(|text| text.rsplit_once(mark));
    let end = marked.and_then(|(before, numbers)| {
        let (code, rest) = numbers.trim_start().split_once(' ')?;
        let output = before.strip_suffix('\n').unwrap_or(before).as_bytes().to_vec();
        Some((output, code.parse().ok()?, rest.parse().ok()?))
    });
    match end {
        Some((output, code, rest)) => {
            (said.output, said.code, said.rest) = (output, code, rest);
            Ok(said)
        }
        None => Err(said),
    }
}
