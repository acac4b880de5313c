//! Writes numbered lines: the oracle of every test that counts lost and repeated lines.
//!
//! ```text
//! log-writer [--name X] [--start N] [--lines N] [--bytes B] [--rate R/s] [--line-buffered]
//!            [--stderr-every K] [--wait S] [--stay S] [--file PATH [--reopen] [--follow-name] [--plain]]
//! ```
//!
//! A line is `<name> <number> <padding>`, its numbers rise by one from `--start` (default 1).
//!
//! * `--lines N`: how many; without it, until SIGTERM or SIGINT.
//! * `--bytes B`: bytes of a line without its line feed (default 100); never less than name and number need.
//! * `--rate R` or `R/s`: lines a second, written every 10 ms; without it, as fast as it goes.
//! * `--line-buffered`: one write a line, instead of one a 64 KiB (or a 10 ms, with a rate).
//! * `--stderr-every K`: every number that K divides goes to standard error.
//! * `--wait S`: seconds before the first line.
//! * `--stay S`: seconds after the last one.
//! * `--file PATH`: appends to a file (O_APPEND) instead of standard output.
//! * `--reopen`: opens the file again by its name after SIGUSR1 or SIGHUP.
//! * `--plain`: without O_APPEND: it writes on where it was, or at the end of what it opens.
//! * `--follow-name`: looks before each write whether the name still means the file, and opens it again if not.
//!
//! After SIGTERM or SIGINT it writes what it has begun, whole lines only, and ends. With `--file` it says at
//! its end on standard output which number comes next.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

/// Bytes of one write when nothing throttles.
const WRITE_BYTES: usize = 64 << 10;

/// Time between writes at a given rate, in milliseconds.
const TICK_MS: u64 = 10;

fn main() -> ExitCode {
    let done = options(std::env::args().skip(1)).and_then(|options| run(&options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error leaves nobody to tell.
            drop(writeln!(io::stderr(), "log-writer: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Options {
    name: String,
    start: u64,
    lines: u64,
    bytes: usize,
    rate: Option<u64>,
    line_buffered: bool,
    stderr_every: Option<u64>,
    wait: f64,
    stay: f64,
    file: Option<PathBuf>,
    reopen: bool,
    follow_name: bool,
    plain: bool,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        name: "line".to_owned(),
        start: 1,
        lines: u64::MAX,
        bytes: 100,
        rate: None,
        line_buffered: false,
        stderr_every: None,
        wait: 0.0,
        stay: 0.0,
        file: None,
        reopen: false,
        follow_name: false,
        plain: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--name" => options.name = value()?,
            "--start" => options.start = value()?.parse()?,
            "--lines" => options.lines = value()?.parse()?,
            "--bytes" => options.bytes = value()?.parse()?,
            "--rate" => options.rate = Some(value()?.trim_end_matches("/s").parse()?),
            "--line-buffered" => options.line_buffered = true,
            "--stderr-every" => options.stderr_every = Some(value()?.parse()?),
            "--wait" => options.wait = value()?.parse()?,
            "--stay" => options.stay = value()?.parse()?,
            "--file" => options.file = Some(value()?.into()),
            "--reopen" => options.reopen = true,
            "--follow-name" => options.follow_name = true,
            "--plain" => options.plain = true,
            unknown => return Err(format!("unknown option {unknown}").into()),
        }
    }
    Ok(options)
}

/// What signals ask for.
#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    reopen: AtomicBool,
}

fn listen(asked: Arc<Asked>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut user = signal(SignalKind::user_defined1())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => asked.stop.store(true, Ordering::Relaxed),
                    _ = interrupt.recv() => asked.stop.store(true, Ordering::Relaxed),
                    _ = user.recv() => asked.reopen.store(true, Ordering::Relaxed),
                    _ = hangup.recv() => asked.reopen.store(true, Ordering::Relaxed),
                }
            }
        });
    });
    Ok(())
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let asked = Arc::new(Asked::default());
    listen(asked.clone())?;
    let mut out = Output::open(options, asked.clone())?;
    let mut errors = Vec::new();
    let mut lines = Vec::new();
    let padding = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(options.bytes / 36 + 1);
    pause(options.wait, &asked)?;
    let begin = Instant::now();
    let end = options.start.saturating_add(options.lines);
    let mut number = options.start;
    while number < end && !asked.stop.load(Ordering::Relaxed) {
        let due = options.rate.map(|rate| {
            let elapsed = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            options.start.saturating_add(rate.saturating_mul(elapsed) / 1000)
        });
        while number < end && due.is_none_or(|due| number < due) {
            let to_errors = options.stderr_every.is_some_and(|every| number.is_multiple_of(every));
            let buffer = if to_errors { &mut errors } else { &mut lines };
            let before = buffer.len();
            write!(buffer, "{} {number} ", options.name)?;
            let used = buffer.len() - before;
            let wanted = options.bytes.saturating_sub(used);
            buffer.extend(padding.as_bytes().iter().take(wanted));
            buffer.push(b'\n');
            number += 1;
            if options.line_buffered || buffer.len() >= WRITE_BYTES {
                break;
            }
        }
        let is_idle = due.is_some_and(|due| number >= due);
        let wants = |buffer: &[u8]| {
            !buffer.is_empty() && (options.line_buffered || is_idle || buffer.len() >= WRITE_BYTES)
        };
        if wants(&lines) {
            out.write(&lines)?;
            lines.clear();
        }
        if wants(&errors) {
            io::stderr().write_all(&errors)?;
            errors.clear();
        }
        if is_idle {
            thread::sleep(Duration::from_millis(TICK_MS));
        }
    }
    out.write(&lines)?;
    io::stderr().write_all(&errors)?;
    pause(options.stay, &asked)?;
    if options.file.is_some() {
        writeln!(io::stdout(), "{number}")?;
    }
    Ok(())
}

/// Waits so many seconds, or until the end is asked for.
fn pause(seconds: f64, asked: &Asked) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + Duration::try_from_secs_f64(seconds)?;
    while Instant::now() < end && !asked.stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(TICK_MS));
    }
    Ok(())
}

/// Where lines go.
enum Output {
    Stdout(File),
    File {
        path: PathBuf,
        file: File,
        reopen: bool,
        follow_name: bool,
        plain: bool,
        asked: Arc<Asked>,
    },
}

impl Output {
    fn open(options: &Options, asked: Arc<Asked>) -> Result<Self, Box<dyn Error>> {
        let Some(path) = options.file.clone() else {
            // The library's own standard output is cut into lines.
            let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::Stdout(descriptor.into()));
        };
        let Options { reopen, follow_name, plain, .. } = *options;
        let file = open(&path, plain)?;
        Ok(Self::File { path, file, reopen, follow_name, plain, asked })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Stdout(file) => file.write_all(bytes)?,
            Self::File { path, file, reopen, follow_name, plain, asked } => {
                let is_asked = *reopen && asked.reopen.swap(false, Ordering::Relaxed);
                if is_asked || (*follow_name && !is_named(file, path)?) {
                    *file = open(path, *plain)?;
                }
                file.write_all(bytes)?;
            }
        }
        Ok(())
    }
}

fn open(path: &PathBuf, plain: bool) -> Result<File, Box<dyn Error>> {
    let mut file = OpenOptions::new().append(!plain).write(true).create(true).open(path);
    if let (true, Ok(file)) = (plain, &mut file) {
        file.seek(io::SeekFrom::End(0))?;
    }
    file.map_err(|error| format!("cannot open {}: {error}", path.display()).into())
}

fn is_named(file: &File, path: &PathBuf) -> Result<bool, Box<dyn Error>> {
    let open = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())))
}
