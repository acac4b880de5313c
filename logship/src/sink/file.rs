//! Files, exactly once: the cursor of the sink says how long each file is, and at the start files are cut back to
//! it. What was written after the cursor was kept is written again, to the same place.
//!
//! The note beside the cursor has every file that was written to since it was kept before. A file is in the note
//! before its first byte. A rotation is in it before the file gets its other name: after a crash it is undone,
//! since all that is in younger files was written after the cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::durable;
use chores_common::shutdown::Shutdown;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::SinkFailure;
use super::options::{LineFormat, OptionFault, Options, SinkUrl};
use super::{Context, Pace, Sent};
use crate::block::Block;
use crate::encode::ndjson::Ndjson;
use crate::encode::{Controls, plain};
use crate::record::Stream;
use crate::source::SourceMeta;
use crate::template::Template;
use crate::time;
use crate::wal::Frame;

mod generations;
mod paths;
mod recovery;

use generations::{Housekeeping, Keep};
pub use paths::SharedPath;

use paths::Paths;

#[cfg(test)]
mod tests;

/// Bytes that are collected before they are written.
const BATCH_BYTES: usize = 1 << 20;

/// How far commits lie apart: after a crash so much is written again.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Files held open at the most.
const OPEN_FILES_MAX: usize = 256;

/// Smallest and largest file that a rotation may be asked for, in bytes.
const ROTATE_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 50;

/// Shortest and longest age.
const AGES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400);

/// Most generations that are kept when they are counted.
const KEEP_MAX: u64 = 100_000;

/// Modes of what is made, subject to the umask.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

const STREAMS: [Stream; 4] = [Stream::File, Stream::Stdout, Stream::Stderr, Stream::Console];

const FORM: &str = "file:///directory/{container}.log";

/// Where lines are written, and how the files are rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The path, absolute.
    pub path: Template,
    /// How lines look.
    pub format: LineFormat,
    /// What is written beside lines.
    pub controls: Controls,
    /// A file is rotated before it is longer than this, in bytes.
    pub rotate_bytes: Option<u64>,
    /// A file is rotated when its first line is this old and another comes.
    pub rotate_age: Option<Duration>,
    /// What happens to rotated files.
    pub keep: Keep,
}

impl FileSettings {
    /// Files that would get the lines of two of these sources, although the path names each, at `ts`, in nanoseconds
    /// since 1970.
    #[must_use]
    pub fn shared<'a>(
        &self,
        sources: impl Iterator<Item = &'a Arc<SourceMeta>>,
        ts: i64,
    ) -> Vec<SharedPath> {
        paths::shared(&self.path, sources, ts)
    }

    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let path = url.decoded_path()?;
        let has_name = path.rsplit('/').next().is_some_and(|name| !matches!(name, "" | "." | ".."));
        if !url.authority.is_empty() || url.user.is_some() || !path.starts_with('/') || !has_name {
            return Err(OptionFault::Form(FORM));
        }
        let default = match path.rsplit('.').next() {
            Some("ndjson" | "jsonl" | "json") => LineFormat::Ndjson,
            _ => LineFormat::Plain,
        };
        let path =
            Template::parse(&path).map_err(|error| OptionFault::Template("the path", error))?;
        let (format, controls) = options.line_format(default)?;
        Ok(Self {
            path,
            format,
            controls,
            rotate_bytes: options.size("rotate", ROTATE_BYTES)?,
            rotate_age: options.duration("every", AGES)?,
            keep: Keep {
                count: options.number("keep", 1..=KEEP_MAX)?,
                age: options.duration("keep_for", AGES)?,
                zstd: options
                    .choice("compress", &[("zstd", true), ("none", false)])?
                    .unwrap_or(false),
            },
        })
    }
}

/// A file as the cursor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// `st_dev` and `st_ino`.
    device: u64,
    inode: u64,
    /// When the file was made, in nanoseconds since 1970, where the file system says so: numbers of inodes are
    /// given again. Notes of earlier releases lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    birth: Option<i64>,
    /// Bytes.
    length: u64,
    /// The number it gets when it is rotated.
    generation: u64,
    /// When its first byte was written, in nanoseconds since 1970.
    born: i64,
    /// It may have been rotated after the cursor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rotating: bool,
}

impl Mark {
    fn is_of(&self, metadata: &Metadata) -> bool {
        let is_born_then = match (self.birth, birth(metadata)) {
            (Some(known), Some(is)) => known == is,
            _ => true,
        };
        is_born_then && (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }

    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.birth) == (other.device, other.inode, other.birth)
    }
}

fn birth(metadata: &Metadata) -> Option<i64> {
    let since = metadata.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// Files by path.
type Marks = BTreeMap<String, Mark>;

/// The sink's part of its cursor.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    files: Marks,
}

/// A file that is being written.
#[derive(Debug)]
struct Open {
    /// As it is now.
    mark: Mark,
    /// `None`: closed to make room for others.
    file: Option<File>,
    /// Written to since it was last made durable.
    is_dirty: bool,
    /// Written to since the last checkpoint.
    is_changed: bool,
    /// When it was used, by the count of the sink's writes.
    used: u64,
}

/// Bytes on their way into one file.
#[derive(Debug)]
struct Piece {
    path: Arc<str>,
    text: Text,
}

#[derive(Debug)]
enum Text {
    /// A block whose text is what is written.
    Block(Block),
    /// A part of the sink's buffer.
    Encoded(Range<usize>),
}

impl Text {
    fn len(&self) -> usize {
        match self {
            Self::Block(block) => block.text().len(),
            Self::Encoded(range) => range.len(),
        }
    }
}

/// Writes lines to files.
#[derive(Debug)]
pub struct FileSink {
    settings: FileSettings,
    encoder: Ndjson,
    pieces: VecDeque<Piece>,
    encoded: Vec<u8>,
    batch_bytes: usize,
    paths: Paths,
    files: HashMap<Arc<str>, Open>,
    /// What the cursor says.
    committed: Marks,
    /// What it will say next.
    pending: Option<Marks>,
    /// The note that is kept lacks something of `committed`.
    is_note_stale: bool,
    /// Directories with new names that are not durable yet.
    directories: BTreeSet<PathBuf>,
    /// Paths that were rotated since the last commit.
    rotated: BTreeSet<Arc<str>>,
    housekeeping: Housekeeping,
    writes: u64,
}

impl FileSink {
    /// Cuts every file back to what the note says.
    pub(super) fn open(settings: FileSettings, note: &Value) -> Result<Self, SinkFailure> {
        let note = match note {
            Value::Null => Note::default(),
            note => Note::deserialize(note)
                .map_err(|error| SinkFailure::of("cannot read the note of the cursor", &error))?,
        };
        let mut housekeeping = Housekeeping::new(settings.keep.clone());
        let mut committed = Marks::new();
        for (path, mark) in note.files {
            if let Some(mark) = recovery::restore(Path::new(&path), mark)? {
                housekeeping.ask(PathBuf::from(&path), mark.generation);
                committed.insert(path, mark);
            }
        }
        housekeeping.start(Instant::now());
        Ok(Self {
            encoder: Ndjson::new(settings.controls),
            settings,
            pieces: VecDeque::new(),
            encoded: Vec::new(),
            batch_bytes: 0,
            paths: Paths::default(),
            files: HashMap::new(),
            committed,
            pending: None,
            is_note_stale: false,
            directories: BTreeSet::new(),
            rotated: BTreeSet::new(),
            housekeeping,
            writes: 0,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        Pace {
            batch_age: Duration::ZERO,
            commit_every: COMMIT_EVERY,
            settle: Duration::ZERO,
            runs_ahead: true,
        }
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        if self.settings.path.has_stream() && frame.block.uniform_flags().is_none() {
            return self.push_streams(frame, from);
        }
        let limit = BATCH_BYTES;
        let Some(first) = frame.block.records().nth(from as usize) else {
            return frame.block.count();
        };
        let Self { settings, encoder, encoded, .. } = self;
        let start = encoded.len();
        let (done, text) = match settings.format {
            LineFormat::Plain => match plain::whole(frame, from) {
                Some(_) => (frame.block.count(), Text::Block(frame.block.clone())),
                None => {
                    let done = plain::encode(frame, from, limit, settings.controls, encoded);
                    (done, Text::Encoded(start..encoded.len()))
                }
            },
            LineFormat::Ndjson => {
                let done = encoder.encode(frame, from, limit, encoded);
                (done, Text::Encoded(start..encoded.len()))
            }
        };
        let bytes = text.len();
        // A frame of nothing but control records that are not wanted makes no file.
        if bytes > 0 {
            let path = self.paths.of(&settings.path, frame, first.flags.stream(), first.ts);
            self.batch_bytes += bytes;
            self.pieces.push_back(Piece { path, text });
        }
        done
    }

    /// A piece for each stream that has records in the frame: they may take turns with every line.
    fn push_streams(&mut self, frame: &Frame, from: u32) -> u32 {
        let Some(first) = frame.block.records().nth(from as usize) else {
            return frame.block.count();
        };
        let mut texts: [Vec<u8>; STREAMS.len()] = Default::default();
        let mut scratch = Vec::new();
        let mut sort = |stream: Stream, encoded: &mut Vec<u8>| {
            let mut texts = texts.iter_mut().zip(STREAMS);
            if let Some((text, _)) = texts.find(|(_, its)| *its == stream) {
                text.append(encoded);
            }
            true
        };
        let Self { settings, encoder, encoded, .. } = self;
        let done = match settings.format {
            LineFormat::Plain => {
                plain::each(frame, from, settings.controls, &mut scratch, |record, encoded| {
                    sort(record.flags.stream(), encoded)
                })
            }
            LineFormat::Ndjson => encoder.each(frame, from, &mut scratch, |record, _, encoded| {
                sort(record.flags.stream(), encoded)
            }),
        };
        for (text, stream) in texts.iter().zip(STREAMS).filter(|(text, _)| !text.is_empty()) {
            let start = encoded.len();
            encoded.extend_from_slice(text);
            self.batch_bytes += text.len();
            let path = self.paths.of(&settings.path, frame, stream, first.ts);
            self.pieces.push_back(Piece { path, text: Text::Encoded(start..encoded.len()) });
        }
        done
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch_bytes >= BATCH_BYTES
    }

    /// Writes the batch. What is written of it after a failure is not written again.
    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        self.register(context)?;
        while let Some(piece) = self.pieces.pop_front() {
            let written = self.write(&piece, context);
            if let Err(failure) = written {
                self.pieces.push_front(piece);
                return Err(failure);
            }
        }
        let bytes = self.batch_bytes as u64;
        self.batch_bytes = 0;
        self.encoded.clear();
        Ok(Sent { bytes, refused: Vec::new() })
    }

    /// Opens what the batch is for, and keeps in the note what is new in it.
    fn register(&mut self, context: &mut Context<'_>) -> Result<(), SinkFailure> {
        for index in 0..self.pieces.len() {
            let Some(path) = self.pieces.get(index).map(|piece| piece.path.clone()) else {
                continue;
            };
            if self.files.get(&path).is_some_and(|open| !is_moved(&path, open)) {
                continue;
            }
            let (file, mark) = open(Path::new(&*path))?;
            self.directories.extend(Path::new(&*path).parent().map(Path::to_owned));
            self.housekeeping.ask(PathBuf::from(&*path), mark.generation);
            let is_known = |marks: &Marks| {
                marks
                    .get(&*path)
                    .is_some_and(|known| Mark { born: mark.born, ..known.clone() } == mark)
            };
            for marks in self.pending.iter_mut().chain([&mut self.committed]) {
                if !is_known(marks) {
                    self.is_note_stale = true;
                    marks.insert(path.to_string(), mark.clone());
                }
            }
            let open = Open {
                mark,
                file: Some(file),
                is_dirty: false,
                is_changed: false,
                used: self.writes,
            };
            self.files.insert(path, open);
            self.close_some()?;
        }
        if self.is_note_stale {
            self.sync_directories()?;
        }
        self.keep_note(context)
    }

    fn keep_note(&mut self, context: &mut Context<'_>) -> Result<(), SinkFailure> {
        if self.is_note_stale {
            (context.keep)(note_of(&self.committed))?;
            self.is_note_stale = false;
        }
        Ok(())
    }

    /// Closes the files that were not used for the longest time.
    fn close_some(&mut self) -> Result<(), SinkFailure> {
        let is_open = |open: &&mut Open| open.file.is_some();
        let count = self.files.values().filter(|open| open.file.is_some()).count();
        if count <= OPEN_FILES_MAX {
            return Ok(());
        }
        let Some(oldest) = self.files.values_mut().filter(is_open).min_by_key(|open| open.used)
        else {
            return Ok(());
        };
        if let (true, Some(file)) = (oldest.is_dirty, &oldest.file) {
            let synced = file.sync_data();
            synced.map_err(|error| SinkFailure::of("cannot make a log file durable", &error))?;
            oldest.is_dirty = false;
        }
        oldest.file = None;
        Ok(())
    }

    fn write(&mut self, piece: &Piece, context: &mut Context<'_>) -> Result<(), SinkFailure> {
        let path = Path::new(&*piece.path);
        let FileSettings { rotate_bytes, rotate_age, .. } = self.settings;
        let length = piece.text.len() as u64;
        let open = self.files.get_mut(&piece.path).ok_or_else(|| forgotten(&piece.path))?;
        let is_long = rotate_bytes.is_some_and(|max| open.mark.length.saturating_add(length) > max);
        let is_old = rotate_age.is_some_and(|max| age(open.mark.born, time::now()) >= max);
        let is_half_rotated = open.mark.inode == 0;
        if is_half_rotated || open.mark.length > 0 && (is_long || is_old) {
            self.rotate(&piece.path, context)?;
        }
        self.writes += 1;
        let open = self.files.get_mut(&piece.path).ok_or_else(|| forgotten(&piece.path))?;
        open.used = self.writes;
        if open.file.is_none() {
            reopen(open, path)?;
            self.close_some()?;
        }
        let bytes = match &piece.text {
            Text::Block(block) => block.text(),
            Text::Encoded(range) => self.encoded.get(range.clone()).unwrap_or_default(),
        };
        let open = self.files.get_mut(&piece.path).ok_or_else(|| forgotten(&piece.path))?;
        let file = open.file.as_ref().ok_or_else(|| forgotten(&piece.path))?;
        // After a failure the same bytes go to the same place again.
        file.write_all_at(bytes, open.mark.length).map_err(|error| {
            SinkFailure::of(&format!("cannot write {}", path.display()), &error)
        })?;
        if open.mark.length == 0 {
            open.mark.born = time::now();
        }
        open.mark.length += bytes.len() as u64;
        open.is_dirty = true;
        open.is_changed = true;
        Ok(())
    }

    /// Gives the file its other name and begins a new one.
    fn rotate(&mut self, path: &Arc<str>, context: &mut Context<'_>) -> Result<(), SinkFailure> {
        let open = self.files.get_mut(path).ok_or_else(|| forgotten(path))?;
        let place = Path::new(&**path);
        let mut generation = open.mark.generation;
        let failed = |act: &str, error: &dyn std::error::Error| {
            SinkFailure::of(&format!("cannot {act} {}", place.display()), error)
        };
        // A rotation that failed half-way goes on behind the rename.
        if open.mark.inode != 0 {
            if let Some(file) = &open.file {
                file.sync_data().map_err(|error| failed("make durable", &error))?;
            }
            open.is_dirty = false;
            // A file of another program may have the name.
            if std::fs::symlink_metadata(generations::rotated_path(place, generation)).is_ok() {
                let last = generations::last(place)
                    .map_err(|error| failed("list the generations of", &error))?;
                generation = generation.max(last) + 1;
                open.mark.generation = generation;
            }
            let mark = open.mark.clone();
            for marks in self.pending.iter_mut().chain([&mut self.committed]) {
                let known = marks.get_mut(&**path);
                if let Some(known) = known.filter(|known| known.is_same_file(&mark)) {
                    self.is_note_stale |= !known.rotating || known.generation != generation;
                    known.rotating = true;
                    known.generation = generation;
                }
            }
            self.keep_note(context)?;
            generations::rename(place, generation).map_err(|error| failed("rotate", &error))?;
            let open = self.files.get_mut(path).ok_or_else(|| forgotten(path))?;
            open.file = None;
            open.mark.inode = 0;
            open.mark.birth = None;
            open.mark.length = 0;
        }
        let file = create(place).map_err(|error| failed("create", &error))?;
        let metadata = file.metadata().map_err(|error| failed("look at", &error))?;
        let open = self.files.get_mut(path).ok_or_else(|| forgotten(path))?;
        open.mark = Mark {
            device: metadata.dev(),
            inode: metadata.ino(),
            birth: birth(&metadata),
            length: metadata.len(),
            generation: generation + 1,
            born: time::now(),
            rotating: false,
        };
        open.file = Some(file);
        self.directories.extend(place.parent().map(Path::to_owned));
        self.rotated.insert(path.clone());
        Ok(())
    }

    /// Everything that is written so far is what the next commit is about.
    pub(super) fn checkpoint(&mut self) {
        let mut marks = Marks::new();
        for (path, open) in &mut self.files {
            if open.file.is_some() || open.is_changed {
                marks.insert(path.to_string(), open.mark.clone());
            }
            open.is_changed = false;
        }
        self.pending = Some(marks);
    }

    /// Makes durable what was written.
    pub(super) fn sync(&mut self) -> Result<(), SinkFailure> {
        let mut lost = Vec::new();
        for (path, open) in self.files.iter_mut().filter(|(_, open)| open.is_dirty) {
            let Some(file) = &open.file else { continue };
            let synced = file.sync_data();
            synced
                .map_err(|error| SinkFailure::of(&format!("cannot make {path} durable"), &error))?;
            open.is_dirty = false;
            if is_moved(path, open) {
                lost.push(path.clone());
            }
        }
        for path in lost {
            self.files.remove(&path);
        }
        self.sync_directories()
    }

    fn sync_directories(&mut self) -> Result<(), SinkFailure> {
        while let Some(directory) = self.directories.first() {
            durable::sync_directory(directory)
                .map_err(|error| SinkFailure::of("cannot keep the name of a log file", &error))?;
            self.directories.pop_first();
        }
        Ok(())
    }

    /// What stands beside the cursor of the checkpoint.
    pub(super) fn note(&self) -> Value {
        note_of(self.pending.as_ref().unwrap_or(&self.committed))
    }

    /// The note is kept: what lies before it may be compressed and removed.
    pub(super) fn committed(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.committed = pending;
            self.is_note_stale = false;
        }
        self.files.retain(|_, open| open.file.is_some() || open.is_changed);
        for path in std::mem::take(&mut self.rotated) {
            if let Some(mark) = self.committed.get(&*path) {
                self.housekeeping.ask(PathBuf::from(&*path), mark.generation);
            }
            if self.committed.get(&*path).is_some_and(|mark| mark.rotating) {
                self.rotated.insert(path);
            }
        }
        self.tidy();
    }

    /// Compresses and removes rotated files in the background, when there are any to look at.
    pub(super) fn tidy(&mut self) {
        self.housekeeping.start(Instant::now());
    }

    /// Waits until rotated files are compressed, or for `stop`: the next start goes on with them.
    pub(super) fn finish(&mut self, stop: &Shutdown) {
        self.housekeeping.finish(stop);
    }
}

/// Cannot be: a file is registered before it is written, and only a commit forgets it.
fn forgotten(path: &str) -> SinkFailure {
    SinkFailure::new(format!("cannot write {path}: it is not open"))
}

/// Whether another program moved or removed the file. Asked before the first write after a commit and at the
/// commit: what is written to a file that somebody removed is lost, so that must not go on for long.
fn is_moved(path: &str, open: &Open) -> bool {
    if open.file.is_none() || open.is_dirty {
        return false;
    }
    let there = std::fs::symlink_metadata(Path::new(path));
    let is_moved = !there.is_ok_and(|metadata| open.mark.is_of(&metadata));
    if is_moved {
        tracing::warn!(
            file = path,
            "another program moved or removed a file that is written here; a new one is begun"
        );
    }
    is_moved
}

fn note_of(marks: &Marks) -> Value {
    // String keys and numbers: it cannot fail.
    serde_json::to_value(Note { files: marks.clone() }).unwrap_or_default()
}

fn age(born: i64, now: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now.saturating_sub(born)).unwrap_or(0))
}

/// A file to write to: the one that is there, or a new one with the directories it needs.
fn open(path: &Path) -> Result<(File, Mark), SinkFailure> {
    let failed = |act: &str, error: &dyn std::error::Error| {
        SinkFailure::of(&format!("cannot {act} {}", path.display()), error)
    };
    if let Some(directory) = path.parent() {
        durable::create_directories(directory, DIRECTORY_MODE)
            .map_err(|error| failed("write", &error))?;
    }
    let file = create(path).map_err(|error| failed("open", &error))?;
    let metadata = file.metadata().map_err(|error| failed("look at", &error))?;
    if !metadata.is_file() {
        return Err(SinkFailure::new(format!("cannot write {}: it is no file", path.display())));
    }
    let last =
        generations::last(path).map_err(|error| failed("list the generations of", &error))?;
    let birth = birth(&metadata);
    let mark = Mark {
        device: metadata.dev(),
        inode: metadata.ino(),
        birth,
        length: metadata.len(),
        generation: last + 1,
        born: birth.unwrap_or_else(time::now),
        rotating: false,
    };
    Ok((file, mark))
}

/// Opens again what was closed to make room.
fn reopen(open: &mut Open, path: &Path) -> Result<(), SinkFailure> {
    let failed = |error| SinkFailure::of(&format!("cannot open {}", path.display()), &error);
    let file = create(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !open.mark.is_of(&metadata) {
        open.mark.device = metadata.dev();
        open.mark.inode = metadata.ino();
        open.mark.birth = birth(&metadata);
        open.mark.length = metadata.len();
    }
    open.file = Some(file);
    Ok(())
}

/// Links are not followed: whoever may write to the directory must not choose what we write to.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}
