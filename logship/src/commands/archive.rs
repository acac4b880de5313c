//! `cat`, `grep` and `tail`: what was shipped, read again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read, Stdout, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::exit::{ExitCode, chain};
use chores_common::object::S3Settings;
use chores_common::settings::one_of;
use regex::bytes::{Regex, RegexBuilder};

use super::{CommandError, Context};
use crate::archive::place::{Part, PlaceError, parts};
use crate::archive::{Entry, Facts, Filter, RECORD_BYTES_MAX, moment};
use crate::cli::{CatArgs, Credentials, FilterArgs, GrepArgs, TailArgs};
use crate::config;
use crate::encode::Controls;
use crate::encode::ndjson::Ndjson;
use crate::process::multiline::PATTERN_BYTES_MAX;
use crate::record::{Control, Stream, control_line};
use crate::rule::Patterns;
use crate::time::{self, Stamp};
use crate::wal::{Spectator, Start};

#[cfg(test)]
mod tests;

/// Lines that `tail` begins with, at the most.
const TAIL_LINES_MAX: u32 = 100_000;

/// Bytes of them.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// How long to wait for more of a file that is followed.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of it that are read at once.
const FOLLOW_BYTES: usize = 256 << 10;

/// What cannot be asked for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{flag} {value:?} is unusable: {fault}")]
    Flag { flag: &'static str, value: String, fault: String },
    #[error("the pattern {0:?} is unusable")]
    Pattern(String, #[source] Box<regex::Error>),
    #[error("--lines {0} is out of range: give 0 to {TAIL_LINES_MAX}")]
    Lines(u32),
    #[error("only one file that is not compressed, or what is being shipped, can be followed")]
    Follow,
    #[error("there is no log in {}", .0.display())]
    NoLog(PathBuf),
}

impl Refusal {
    fn flag(flag: &'static str, value: &str, fault: &dyn ToString) -> CommandError {
        CommandError::usage(Self::Flag { flag, value: value.to_owned(), fault: fault.to_string() })
    }
}

impl From<PlaceError> for CommandError {
    fn from(error: PlaceError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

/// Prints archives.
pub fn cat(context: &Context<'_>, args: &CatArgs) -> Result<ExitCode, CommandError> {
    let filter = filter(&args.filter)?;
    let mut printer = Printer::new(context, args.long);
    let walked = walk(context, &args.places, &filter, |_, entry| printer.print(entry));
    printer.end(walked)
}

/// Searches archives.
pub fn grep(context: &Context<'_>, args: &GrepArgs) -> Result<ExitCode, CommandError> {
    let filter = filter(&args.filter)?;
    let pattern = pattern(&args.pattern, args.ignore_case)?;
    let is_inverted = args.invert_match > 0;
    let mut printer = Printer::new(context, args.long);
    let mut counts = vec![0_u64; args.places.len()];
    let walked = walk(context, &args.places, &filter, |at, entry| {
        let is_control = entry.facts.as_ref().is_some_and(|facts| facts.control.is_some());
        if is_control {
            printer.note(entry.facts.as_ref());
        } else if pattern.is_match(&entry.line) != is_inverted {
            match counts.get_mut(at) {
                Some(count) if args.count => *count += 1,
                _ => return printer.print(entry),
            }
        }
        Ok(())
    });
    if args.count {
        for (place, count) in args.places.iter().zip(counts) {
            let line = match (context.args.json, args.places.len()) {
                (true, _) => serde_json::json!({"archive": place, "count": count}).to_string(),
                (false, 1) => count.to_string(),
                (false, _) => format!("{place}:{count}"),
            };
            printer.line(line.as_bytes()).map_err(CommandError::Answer)?;
        }
    }
    printer.end(walked)
}

/// Prints the end, and goes on.
pub fn tail(context: &Context<'_>, args: &TailArgs) -> Result<ExitCode, CommandError> {
    let filter = filter(&args.filter)?;
    if args.lines > TAIL_LINES_MAX {
        return Err(CommandError::usage(Refusal::Lines(args.lines)));
    }
    let mut printer = Printer::new(context, args.long);
    if args.places.iter().all(|place| is_source(place)) {
        let walked = live(context, args, filter, &mut printer);
        return printer.end(walked);
    }
    if args.follow {
        let [place] = args.places.as_slice() else {
            return Err(CommandError::usage(Refusal::Follow));
        };
        let walked = follow(context, Path::new(place), args.lines, &filter, &mut printer);
        return printer.end(walked);
    }
    let walked = last(context, &args.places, args.lines, &filter).and_then(|lines| {
        lines.print(&mut printer).map_err(CommandError::Answer)?;
        Ok(ExitCode::Done)
    });
    printer.end(walked)
}

/// Whether it names what is being shipped, and no archive.
fn is_source(place: &str) -> bool {
    place != "-" && !place.contains("://") && !Path::new(place).exists() && !place.starts_with('/')
}

/// The end of what is being shipped, from the log of the process that does.
fn live(
    context: &Context<'_>,
    args: &TailArgs,
    mut filter: Filter,
    printer: &mut Printer,
) -> Result<ExitCode, CommandError> {
    let state = context.state()?;
    if !state.is_dir() {
        return Err(CommandError::usage(Refusal::NoLog(state)));
    }
    if !args.places.is_empty() {
        let names: Vec<String> = [&args.places[..], &args.filter.source].concat();
        filter.sources = Patterns::new(&names)
            .map_err(|error| Refusal::flag("the source", &args.places.join(" "), &error))?;
    }
    let mut spectator = Spectator::open(&state, Start::Recent).map_err(CommandError::failed)?;
    let mut last = Last::default();
    let mut encoder = Ndjson::new(Controls::All);
    see(&mut spectator, &mut encoder, &filter, &mut |entry| {
        last.push(entry.raw, true, args.lines as usize);
        Ok(())
    })?;
    last.print(printer).map_err(CommandError::Answer)?;
    drop(last);
    while args.follow && !context.shutdown.is_requested() {
        printer.out.flush().map_err(CommandError::Answer)?;
        context.runtime.block_on(context.shutdown.or(tokio::time::sleep(FOLLOW_PAUSE)));
        see(&mut spectator, &mut encoder, &filter, &mut |entry| printer.print(entry))?;
    }
    Ok(ExitCode::Done)
}

/// Everything that is new in the log.
fn see(
    spectator: &mut Spectator,
    encoder: &mut Ndjson,
    filter: &Filter,
    each: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> Result<(), CommandError> {
    let mut text = Vec::new();
    while let Some(frame) = spectator.next().map_err(CommandError::failed)? {
        let mut done = 0;
        while done < frame.block.count() {
            text.clear();
            done = encoder.encode(&frame, done, FOLLOW_BYTES, &mut text);
            for raw in text.split(|byte| *byte == b'\n').filter(|raw| !raw.is_empty()) {
                let entry = entry(raw, true);
                if entry.facts.as_ref().is_some_and(|facts| filter.takes(facts)) {
                    each(&entry).map_err(CommandError::Answer)?;
                }
            }
        }
    }
    Ok(())
}

fn pattern(text: &str, ignore_case: bool) -> Result<Regex, CommandError> {
    RegexBuilder::new(text)
        .case_insensitive(ignore_case)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| CommandError::usage(Refusal::Pattern(text.to_owned(), Box::new(error))))
}

fn filter(args: &FilterArgs) -> Result<Filter, CommandError> {
    let now = time::now();
    let at = |flag, text: &Option<String>| {
        let read =
            |text: &String| moment(text, now).map_err(|error| Refusal::flag(flag, text, &error));
        text.as_ref().map(read).transpose()
    };
    if let Some(stream) = &args.stream {
        let names =
            [Stream::Stdout, Stream::Stderr, Stream::Console, Stream::File].map(Stream::name);
        if !names.contains(&stream.as_str()) {
            return Err(Refusal::flag("--stream", stream, &one_of(stream, &names)));
        }
    }
    let sources = Patterns::new(&args.source)
        .map_err(|error| Refusal::flag("--source", &args.source.join(" "), &error))?;
    Ok(Filter {
        sources,
        since: at("--since", &args.since)?,
        until: at("--until", &args.until)?,
        stream: args.stream.clone(),
    })
}

fn s3() -> Result<S3Settings, CommandError> {
    Ok(config::s3(Credentials::from_environment())?)
}

/// Every record that is wanted, of every place. What cannot be read does not keep the rest from being read: the
/// first such error is the answer.
fn walk(
    context: &Context<'_>,
    places: &[String],
    filter: &Filter,
    mut each: impl FnMut(usize, &Entry<'_>) -> io::Result<()>,
) -> Result<ExitCode, CommandError> {
    let s3 = s3()?;
    let mut first: Option<CommandError> = None;
    let mut keep = |error: CommandError| match &first {
        None => first = Some(error),
        Some(_) => tracing::error!("{}", chain(&error)),
    };
    for (at, place) in places.iter().enumerate() {
        let listed = match parts(place, &s3, &context.runtime) {
            Ok(listed) => listed,
            Err(error) => {
                keep(error.into());
                continue;
            }
        };
        for part in listed {
            if let Err(error) = walk_part(context, &part, filter, &mut |entry| each(at, entry)) {
                if matches!(error, CommandError::Answer(_) | CommandError::Interrupted(_)) {
                    return Err(error);
                }
                keep(error);
            }
        }
    }
    first.map_or(Ok(ExitCode::Done), Err)
}

#[derive(Debug, thiserror::Error)]
#[error("stopped before the end of {0}")]
struct Stopped(String);

fn walk_part(
    context: &Context<'_>,
    part: &Part,
    filter: &Filter,
    each: &mut dyn FnMut(&Entry<'_>) -> io::Result<()>,
) -> Result<(), CommandError> {
    let mut reader = part.open(&context.runtime)?;
    loop {
        if context.shutdown.is_requested() {
            return Err(CommandError::interrupted(Stopped(reader.place().to_owned())));
        }
        match reader.next(filter).map_err(PlaceError::from)? {
            Some(entry) => each(&entry).map_err(CommandError::Answer)?,
            None => return Ok(()),
        }
    }
}

/// Writes records the way that was asked for.
struct Printer {
    out: BufWriter<Stdout>,
    is_json: bool,
    is_long: bool,
    stamp: Stamp,
    gaps: u64,
    lost: u64,
}

impl Printer {
    fn new(context: &Context<'_>, is_long: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(FOLLOW_BYTES, io::stdout()),
            is_json: context.args.json,
            is_long,
            stamp: Stamp::default(),
            gaps: 0,
            lost: 0,
        }
    }

    fn print(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.note(entry.facts.as_ref());
        let Some(facts) = &entry.facts else {
            if self.is_json {
                let line = String::from_utf8_lossy(&entry.line);
                return self.line(serde_json::json!({"line": line}).to_string().as_bytes());
            }
            return self.line(&entry.line);
        };
        if self.is_json {
            return self.line(entry.raw);
        }
        if self.is_long {
            self.out.write_all(self.stamp.write(facts.ts))?;
            write!(self.out, " {} {} ", facts.name(), facts.stream)?;
        }
        match &facts.control {
            None => self.line(&entry.line),
            Some(control) if self.is_long => self.line(&control_line(control)),
            Some(_) => Ok(()),
        }
    }

    /// Remembers what is missing in what is printed.
    fn note(&mut self, facts: Option<&Facts<'_>>) {
        if let Some(Control::Gap(gap)) = facts.and_then(|facts| facts.control.as_ref()) {
            self.gaps += 1;
            self.lost += gap.lines.unwrap_or(0);
        }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }

    /// The last word: gaps are told, and are warnings.
    fn end(mut self, walked: Result<ExitCode, CommandError>) -> Result<ExitCode, CommandError> {
        let flushed = self.out.flush();
        let code = walked?;
        flushed.map_err(CommandError::Answer)?;
        if self.gaps == 0 {
            return Ok(code);
        }
        let (gaps, lost) = (self.gaps, self.lost);
        tracing::warn!("the archive has {gaps} gaps; {lost} lines are known to be missing");
        Ok(code.or_worse(ExitCode::Warnings))
    }
}

/// The youngest records.
#[derive(Debug, Default)]
struct Last {
    lines: VecDeque<(Vec<u8>, bool)>,
    bytes: usize,
}

impl Last {
    /// Keeps a record; beyond the limits the oldest goes.
    fn push(&mut self, raw: &[u8], is_ndjson: bool, lines_max: usize) {
        self.lines.push_back((raw.to_vec(), is_ndjson));
        self.bytes += raw.len();
        while self.lines.len() > lines_max || self.bytes > TAIL_BYTES_MAX {
            let Some((gone, _)) = self.lines.pop_front() else { return };
            self.bytes -= gone.len();
        }
    }

    fn print(&self, printer: &mut Printer) -> io::Result<()> {
        for (raw, is_ndjson) in &self.lines {
            printer.print(&entry(raw, *is_ndjson))?;
        }
        Ok(())
    }
}

/// A record that was read before; what is none is a line.
fn entry(raw: &[u8], is_ndjson: bool) -> Entry<'_> {
    let parsed = if is_ndjson { Entry::parse(raw).ok() } else { None };
    parsed.unwrap_or(Entry { raw, line: raw.into(), facts: None })
}

/// The last records of the places together, read from the last part backwards.
fn last(
    context: &Context<'_>,
    places: &[String],
    lines: u32,
    filter: &Filter,
) -> Result<Last, CommandError> {
    let s3 = s3()?;
    let mut listed = Vec::new();
    for place in places {
        listed.extend(parts(place, &s3, &context.runtime)?);
    }
    let mut wanted = lines as usize;
    let mut found: Vec<Last> = Vec::new();
    while let Some(part) = listed.pop().filter(|_| wanted > 0) {
        let mut last = Last::default();
        walk_part(context, &part, filter, &mut |entry| {
            last.push(entry.raw, entry.facts.is_some(), wanted);
            Ok(())
        })?;
        wanted -= last.lines.len();
        found.push(last);
    }
    let mut all = Last::default();
    for (raw, is_ndjson) in found.into_iter().rev().flat_map(|last| last.lines) {
        all.push(&raw, is_ndjson, lines as usize);
    }
    Ok(all)
}

/// A file that grows.
struct Followed {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
    offset: u64,
    /// A line without its end.
    begun: Vec<u8>,
    is_ndjson: Option<bool>,
}

impl Followed {
    fn open(path: &Path) -> Result<Self, PlaceError> {
        let fail = |source| PlaceError::Path { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let facts = file.metadata().map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            inode: (facts.dev(), facts.ino()),
            offset: 0,
            begun: Vec::new(),
            is_ndjson: None,
        })
    }

    /// Everything that is new, and what takes its place when the name means another file now.
    fn poll(
        &mut self,
        each: &mut dyn FnMut(&[u8], bool) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        self.read(each)?;
        let Ok(facts) = std::fs::metadata(&self.path) else { return Ok(()) };
        if (facts.dev(), facts.ino()) != self.inode {
            // What was written between the two looks.
            self.read(each)?;
            let is_ndjson = self.is_ndjson;
            *self = Self { is_ndjson, ..Self::open(&self.path)? };
            self.read(each)?;
        } else if facts.len() < self.offset {
            *self = Self::open(&self.path)?;
            self.read(each)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        each: &mut dyn FnMut(&[u8], bool) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        let mut buffer = vec![0; FOLLOW_BYTES];
        loop {
            let fail = |source| PlaceError::Path { path: self.path.clone(), source };
            let length = self.file.read(&mut buffer).map_err(fail)?;
            if length == 0 {
                return Ok(());
            }
            self.offset += length as u64;
            self.begun.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &self.begun) {
                let line = self.begun.get(start..end).unwrap_or_default();
                start = end + 1;
                let is_ndjson = *self.is_ndjson.get_or_insert_with(|| Entry::parse(line).is_ok());
                each(line, is_ndjson).map_err(CommandError::Answer)?;
            }
            self.begun.drain(..start);
            // No line of ours is as long: it is not kept, and not shown.
            if self.begun.len() > RECORD_BYTES_MAX {
                self.begun.clear();
            }
        }
    }
}

fn follow(
    context: &Context<'_>,
    path: &Path,
    lines: u32,
    filter: &Filter,
    printer: &mut Printer,
) -> Result<ExitCode, CommandError> {
    let is_file = std::fs::metadata(path)
        .map_err(|source| PlaceError::Path { path: path.to_owned(), source })?
        .is_file();
    let is_compressed = path.extension().is_some_and(|end| end == "zst" || end == "gz");
    if !is_file || is_compressed {
        return Err(CommandError::usage(Refusal::Follow));
    }
    let takes = |raw: &[u8], is_ndjson| {
        filter.is_all() || entry(raw, is_ndjson).facts.is_some_and(|facts| filter.takes(&facts))
    };
    let mut followed = Followed::open(path)?;
    let mut last = Last::default();
    followed.read(&mut |raw, is_ndjson| {
        if takes(raw, is_ndjson) {
            last.push(raw, is_ndjson, lines as usize);
        }
        Ok(())
    })?;
    last.print(printer).map_err(CommandError::Answer)?;
    drop(last);
    loop {
        printer.out.flush().map_err(CommandError::Answer)?;
        if context.shutdown.is_requested() {
            // To follow is to be stopped.
            return Ok(ExitCode::Done);
        }
        context.runtime.block_on(context.shutdown.or(tokio::time::sleep(FOLLOW_PAUSE)));
        followed.poll(&mut |raw, is_ndjson| {
            if takes(raw, is_ndjson) { printer.print(&entry(raw, is_ndjson)) } else { Ok(()) }
        })?;
    }
}
