//! Reads the log of another process, which goes on writing it and knows nothing of the reader.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Kind, Raw};
use super::segment::{self, Found, Segment};
use super::shared::Paths;
use super::state::LogState;
use super::{Frame, WalError};
use crate::block::Block;
use crate::source::{SourceId, SourceMeta};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest frame that is there.
    Oldest,
    /// With the newest segment: some of the past, not much.
    Recent,
    /// With what is written from now on.
    End,
}

/// Reads a log that it holds nothing of: what is removed before it was read is left out. Damage is left out, too:
/// `audit` tells of it.
#[derive(Debug)]
pub struct Spectator {
    directory: PathBuf,
    segment: Option<Segment>,
    position: u64,
    metas: HashMap<SourceId, Arc<SourceMeta>>,
}

impl Spectator {
    /// Looks at the log in the state directory `state`. One that is not there yet may come.
    pub fn open(state: &Path, start: Start) -> Result<Self, WalError> {
        let directory = Paths::new(state).segments;
        let mut spectator = Self { directory, segment: None, position: 0, metas: HashMap::new() };
        if start != Start::Oldest
            && let Some(newest) = segment::list(&spectator.directory)?.pop()
        {
            spectator.position = newest;
        }
        if start == Start::End {
            while spectator.next()?.is_some() {}
        }
        Ok(spectator)
    }

    /// The next frame, or `None` when there is none yet: ask again later.
    #[expect(clippy::should_implement_trait, reason = "it goes on after it gave none")]
    pub fn next(&mut self) -> Result<Option<Frame>, WalError> {
        loop {
            let mut segment = match self.segment.take() {
                Some(segment) => segment,
                None => match self.open_next(self.position)? {
                    Some(segment) => segment,
                    None => return Ok(None),
                },
            };
            let next = segment.base.saturating_add(1);
            match self.look(&mut segment, next) {
                Ok((None, true)) => self.position = self.position.max(next),
                kept => {
                    // Also when it cannot be read now: whoever asks again goes on in it.
                    self.segment = Some(segment);
                    return kept.map(|(found, _)| found);
                }
            }
        }
    }

    /// The next frame of a segment, and whether there is a later one that begins at `next` or behind.
    fn look(
        &mut self,
        segment: &mut Segment,
        next: u64,
    ) -> Result<(Option<Frame>, bool), WalError> {
        // That is asked first: then this one has its last byte.
        let is_over = segment::list(&self.directory)?.last().is_some_and(|last| *last >= next);
        Ok((self.read(segment)?, is_over))
    }

    /// The first segment that begins at `position` or later.
    fn open_next(&mut self, position: u64) -> Result<Option<Segment>, WalError> {
        for base in segment::list(&self.directory)? {
            if base < position {
                continue;
            }
            match Segment::open(&self.directory, base) {
                Ok(segment) => {
                    self.position = segment.first();
                    return Ok(Some(segment));
                }
                // Removed a moment ago.
                Err(WalError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read(&mut self, segment: &mut Segment) -> Result<Option<Frame>, WalError> {
        let limit = segment.file_end()?;
        loop {
            match segment.frame(self.position, limit)? {
                Found::Frame(raw) => {
                    self.position = raw.head.end();
                    if let Some(frame) = self.take(&raw) {
                        return Ok(Some(frame));
                    }
                }
                Found::End => return Ok(None),
                Found::Damaged(_) => match segment.resync(self.position, limit)? {
                    Some(next) => self.position = next,
                    // It is being written.
                    None => return Ok(None),
                },
            }
        }
    }

    fn take(&mut self, raw: &Raw<'_>) -> Option<Frame> {
        let head = &raw.head;
        let id = SourceId(head.source);
        let body = raw.body().ok()?;
        match head.kind {
            Kind::State => {
                let state = LogState::from_json(&body).ok()?;
                let known = state.sources.into_iter().map(|(id, source)| (id, source.meta));
                self.metas = known.collect();
                None
            }
            Kind::Source => {
                self.metas.insert(id, Arc::new(serde_json::from_slice(&body).ok()?));
                None
            }
            Kind::Records => Some(Frame {
                start: head.position,
                end: head.end(),
                source: id,
                meta: self.metas.get(&id)?.clone(),
                first_seq: head.first_seq,
                block: Block::decode(body.into_owned().into(), head.base_ts).ok()?,
            }),
            Kind::End | Kind::Closed => None,
        }
    }
}
