//! `replay`: a recording, as it was seen.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chores_common::exit::ExitCode;

use super::CommandError;
use crate::cast::{self, Event, Header, LINE_BYTES_MAX};
use crate::cli::ReplayArgs;
use crate::config::SettingError;
use crate::screen::{Filter, RESET};

/// How a zstd frame begins (RFC 8878).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is no recording", .0.display())]
    NoRecording(PathBuf),
}

/// Plays it.
pub fn run(args: &ReplayArgs) -> Result<ExitCode, CommandError> {
    let speed = args.speed;
    if !(speed.is_finite() && speed > 0.0) {
        return Err(SettingError::flag("--speed", &speed, &"give a number above 0").into());
    }
    let path = || args.file.clone();
    let unreadable =
        |source| CommandError::failed(ReplayError::Unreadable { path: path(), source });
    let mut lines = BufReader::new(opened(&args.file).map_err(unreadable)?);
    let mut line = Vec::new();
    let first = next_line(&mut lines, &mut line).map_err(unreadable)?;
    let header = first.and_then(|()| Header::parse(&line));
    let header = header.ok_or_else(|| CommandError::usage(ReplayError::NoRecording(path())))?;
    if !args.raw {
        tracing::info!(
            "{} by {}: {}",
            header.width,
            header.height,
            crate::login::shown(&header.title)
        );
    }
    let mut out = io::stdout().lock();
    let mut filter = Filter::default();
    let begun = Instant::now();
    // What is left out of long pauses.
    let mut skipped = Duration::ZERO;
    let mut last = Duration::ZERO;
    let mut is_whole = false;
    let mut fault = None;
    loop {
        match next_line(&mut lines, &mut line) {
            Ok(Some(())) => {}
            Ok(None) => break,
            Err(error) => {
                fault = Some(error.to_string());
                break;
            }
        }
        let Some(event) = Event::parse(&line) else {
            fault = Some("there is a line in it that is none of a recording".to_owned());
            break;
        };
        let pause = event.time.saturating_sub(last);
        last = last.max(event.time);
        if let Some(most) = args.pause_max.map(Duration::from_secs) {
            skipped += pause.saturating_sub(most);
        }
        if !args.raw {
            let due = last.saturating_sub(skipped).div_f64(speed);
            // A clock that is late already does not wait.
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        let shown = match event.code.as_str() {
            cast::OUTPUT => {
                let bytes = cast::bytes_of(&event.data);
                if args.raw { bytes } else { filter.pass(&bytes) }
            }
            cast::EXIT => {
                is_whole = true;
                continue;
            }
            _ => continue,
        };
        let written =
            out.write_all(&shown).and_then(|()| if args.raw { Ok(()) } else { out.flush() });
        written.map_err(CommandError::Answer)?;
    }
    if !args.raw {
        out.write_all(RESET).map_err(CommandError::Answer)?;
    }
    out.flush().map_err(CommandError::Answer)?;
    if let Some(fault) = fault {
        tracing::warn!("the recording is cut or damaged at {:.1} s: {fault}", last.as_secs_f64());
        return Ok(ExitCode::Warnings);
    }
    if !is_whole {
        tracing::warn!(
            "the recording ends at {:.1} s without the end of its program",
            last.as_secs_f64()
        );
        return Ok(ExitCode::Warnings);
    }
    Ok(ExitCode::Done)
}

/// The text of a recording, compressed or not.
fn opened(path: &PathBuf) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(File::open(path)?);
    if file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        Ok(Box::new(zstd::Decoder::with_buffer(file)?))
    } else {
        Ok(Box::new(file))
    }
}

/// The next line without its end; `None` when there is no whole one any more.
fn next_line(lines: &mut BufReader<Box<dyn Read>>, line: &mut Vec<u8>) -> io::Result<Option<()>> {
    line.clear();
    lines.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(())),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is cut or too long")),
    }
}
