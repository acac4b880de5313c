//! The thread that shows progress.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Progress, text};

/// Between two refreshes of the bar.
const BAR_PERIOD: Duration = Duration::from_millis(200);
/// Between two lines in a log.
const LINE_PERIOD: Duration = Duration::from_secs(60);
/// Between two lines for a machine.
const JSON_PERIOD: Duration = Duration::from_secs(1);

const BAR_UNKNOWN: &str = "{spinner} {msg}";
const BAR_KNOWN: &str = "{spinner} [{wide_bar}] {percent}% {msg}";

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A bar on the terminal of standard error.
    Bar,
    /// One line a minute to standard error.
    Lines,
    /// JSON lines to standard output, one a second.
    Json,
    /// Nowhere.
    Nothing,
}

impl Output {
    /// What fits this process: JSON if asked for, nothing if quiet, a bar on a terminal, lines
    /// otherwise.
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            (false, true) => Self::Nothing,
            (false, false) if std::io::stderr().is_terminal() => Self::Bar,
            (false, false) => Self::Lines,
        }
    }

    fn period(self) -> Duration {
        match self {
            Self::Bar => BAR_PERIOD,
            Self::Lines | Self::Nothing => LINE_PERIOD,
            Self::Json => JSON_PERIOD,
        }
    }
}

/// Shows the counters of a [`Progress`] until it is finished or dropped.
#[derive(Debug)]
pub struct Reporter {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    /// Starts to show `progress`; `act` is what is being done, such as `backup of mysqldata`.
    pub fn start(act: &str, progress: &Progress, output: Output) -> Self {
        if output == Output::Nothing {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let (act, progress) = (act.to_owned(), progress.clone());
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let started = Instant::now();
            let mut display = Display::new(output);
            display.show(&act, &progress, started.elapsed());
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(output.period()) {
                display.show(&act, &progress, started.elapsed());
            }
            display.end(&act, &progress, started.elapsed());
        });
        match thread {
            Ok(thread) => Self { stop: Some(stop), thread: Some(thread) },
            Err(error) => {
                tracing::warn!(%error, "progress is not shown");
                Self { stop: None, thread: None }
            }
        }
    }

    /// Removes the bar, or writes the last JSON line, and ends the thread.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The thread sees that the channel is closed.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the progress thread panicked");
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end();
    }
}

enum Display {
    Bar(ProgressBar),
    /// The first moment is not worth a line.
    Lines {
        is_first: bool,
    },
    Json,
}

impl Display {
    fn new(output: Output) -> Self {
        match output {
            Output::Bar => {
                Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
            }
            Output::Json => Self::Json,
            Output::Lines | Output::Nothing => Self::Lines { is_first: true },
        }
    }

    fn show(&mut self, act: &str, progress: &Progress, elapsed: Duration) {
        let snapshot = progress.snapshot();
        match self {
            Self::Bar(bar) => {
                if let Some(total) = snapshot.bytes_total
                    && bar.length() != Some(total)
                {
                    bar.set_length(total);
                }
                let form = if snapshot.bytes_total.is_some() { BAR_KNOWN } else { BAR_UNKNOWN };
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.set_position(snapshot.bytes);
                bar.set_message(text::line(act, &snapshot, elapsed));
                bar.tick();
            }
            Self::Lines { is_first: first @ true } => *first = false,
            Self::Lines { .. } => put_line(std::io::stderr(), &text::line(act, &snapshot, elapsed)),
            Self::Json => put_line(std::io::stdout(), &text::json(act, &snapshot, elapsed)),
        }
    }

    fn end(&mut self, act: &str, progress: &Progress, elapsed: Duration) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
            Self::Json => self.show(act, progress, elapsed),
        }
    }
}

/// A reader of progress that went away must not stop the work.
fn put_line(mut output: impl Write, line: &str) {
    if let Err(error) = writeln!(output, "{line}") {
        tracing::debug!(%error, "a progress line was not written");
    }
}
