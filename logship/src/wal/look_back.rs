//! Reads single segments of a log that another process, or another part of this one, goes on writing.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::Kind;
use super::segment::{self, Found, Segment};
use super::shared::Paths;
use super::state::LogState;
use super::{Frame, WalError};
use crate::block::Block;
use crate::source::{SourceId, SourceMeta};

/// The segments of a log. It holds nothing of them: what is removed meanwhile is left out, and so is damage, of
/// which `audit` tells.
#[derive(Debug)]
pub struct LookBack {
    directory: PathBuf,
}

impl LookBack {
    /// The log in the state directory `state`; one that is not there has no segments.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { directory: Paths::new(state).segments }
    }

    /// Where each segment begins, the oldest first.
    pub fn segments(&self) -> Result<Vec<u64>, WalError> {
        segment::list(&self.directory)
    }

    /// Reads the segment that begins at `base`, in the order it was written: of the frames that `wants` by the
    /// times of their first and last record, `each` gets the records. Gives the time of the youngest record in the
    /// segments before, as far as the segment knows it.
    pub fn read(
        &self,
        base: u64,
        wants: &dyn Fn(i64, i64) -> bool,
        each: &mut dyn FnMut(&Frame) -> ControlFlow<()>,
    ) -> Result<Option<i64>, WalError> {
        let mut segment = match Segment::open(&self.directory, base) {
            Ok(segment) => segment,
            // Every sink has it, and it was removed a moment ago.
            Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (mut position, limit) = (segment.first(), segment.file_end()?);
        let mut metas: HashMap<SourceId, Arc<SourceMeta>> = HashMap::new();
        let mut earlier = None;
        loop {
            if let Ok(Some(head)) = segment.head(position, limit)?
                && head.kind == Kind::Records
                && head.end() <= limit
                && !wants(head.base_ts.min(head.last_ts), head.base_ts.max(head.last_ts))
            {
                position = head.end();
                continue;
            }
            let raw = match segment.frame(position, limit)? {
                Found::Frame(raw) => raw,
                Found::End => return Ok(earlier),
                Found::Damaged(_) => match segment.resync(position, limit)? {
                    Some(next) => {
                        position = next;
                        continue;
                    }
                    // It is being written.
                    None => return Ok(earlier),
                },
            };
            let (head, id) = (raw.head, SourceId(raw.head.source));
            position = head.end();
            let Ok(body) = raw.body() else { continue };
            match head.kind {
                Kind::State => {
                    let Ok(state) = LogState::from_json(&body) else { continue };
                    earlier = state.sources.values().filter_map(|source| source.last_ts).max();
                    metas = state.sources.into_iter().map(|(id, it)| (id, it.meta)).collect();
                }
                Kind::Source => {
                    if let Ok(meta) = serde_json::from_slice(&body) {
                        metas.insert(id, Arc::new(meta));
                    }
                }
                Kind::Records => {
                    let block = Block::decode(body.into_owned().into(), head.base_ts).ok();
                    let Some((block, meta)) = block.zip(metas.get(&id).cloned()) else { continue };
                    let (start, end, first_seq) = (head.position, head.end(), head.first_seq);
                    let frame = Frame { start, end, source: id, meta, first_seq, block };
                    if each(&frame).is_break() {
                        return Ok(earlier);
                    }
                }
                Kind::End | Kind::Closed => {}
            }
        }
    }
}
