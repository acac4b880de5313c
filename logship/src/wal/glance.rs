//! How the log of another process is doing, from its newest segment and the places of its sinks.

use std::path::{Path, PathBuf};

use super::segment::{self, Found, Segment};
use super::shared::Paths;
use super::sink_cursor::{self, Role};
use super::state::LogState;
use super::{Position, WalError};
use crate::time;

/// A log as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// Bytes on disk.
    pub bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Where the next frame begins.
    pub written: Position,
    /// When the newest segment was last written to, in nanoseconds since 1970.
    pub written_at: Option<i64>,
    /// What is known of every source.
    pub state: LogState,
    /// Every sink that ever was, by name, with its role and place.
    pub sinks: Vec<(String, Role, Position)>,
}

/// Looks at a log again and again, and reads only what is new.
#[derive(Debug)]
pub struct Onlooker {
    paths: Paths,
    segment: Option<Segment>,
    position: u64,
    log: Option<String>,
    state: LogState,
}

impl Onlooker {
    /// Looks at the log in the state directory `state`. One that is not there yet may come.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        let state = Paths::new(state);
        Self { paths: state, segment: None, position: 0, log: None, state: LogState::default() }
    }

    /// The log now. Damage is left out: `audit` tells of it.
    pub fn look(&mut self) -> Result<Glance, WalError> {
        let bases = segment::list(&self.paths.segments)?;
        let files: Vec<PathBuf> =
            bases.iter().map(|base| segment::path(&self.paths.segments, *base)).collect();
        let sizes = files.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len()));
        let bytes = sizes.sum();
        if let Some(newest) = bases.last() {
            self.go_on(*newest)?;
        }
        let written_at = files.last().and_then(|path| {
            let modified = std::fs::metadata(path).and_then(|facts| facts.modified()).ok()?;
            Some(time::of_system(modified))
        });
        let sinks = sink_cursor::all(&self.paths.sinks)?;
        let sinks = sinks.into_iter().filter(|sink| Some(&sink.log) == self.log.as_ref());
        Ok(Glance {
            bytes,
            segments: bases.len(),
            written: Position { frame: self.position, record: 0 },
            written_at,
            state: self.state.clone(),
            sinks: sinks.map(|sink| (sink.sink, sink.role, sink.position)).collect(),
        })
    }

    /// Takes over what the newest segment, which begins at `base`, says since the last look.
    fn go_on(&mut self, base: u64) -> Result<(), WalError> {
        let mut segment = match self.segment.take().filter(|segment| segment.base == base) {
            Some(segment) => segment,
            None => {
                let mut segment = Segment::open(&self.paths.segments, base)?;
                self.log = segment.header()?.ok().map(|header| header.log.to_string());
                self.position = segment.first();
                self.state = LogState::default();
                segment
            }
        };
        let limit = segment.file_end()?;
        loop {
            match segment.frame(self.position, limit)? {
                Found::Frame(raw) => {
                    self.position = raw.head.end();
                    // What cannot be taken apart changes nothing.
                    self.state.fold(&raw, time::now()).ok();
                }
                Found::End => break,
                Found::Damaged(_) => match segment.resync(self.position, limit)? {
                    Some(next) => self.position = next,
                    // It is being written.
                    None => break,
                },
            }
        }
        self.segment = Some(segment);
        Ok(())
    }
}
