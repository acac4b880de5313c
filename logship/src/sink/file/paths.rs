//! The paths of sources, so that they are not made anew for every batch.

use std::collections::HashMap;
use std::sync::Arc;

use crate::record::Stream;
use crate::source::{SourceId, SourceMeta};
use crate::template::Template;
use crate::time;
use crate::wal::Frame;

/// Most paths that are kept; beyond it they are made anew.
const PATHS_KEPT_MAX: usize = 4096;

/// Seconds of a day: what a date in a path changes with.
const DAY_SECONDS: i64 = 86_400;

/// Paths that were made from one template.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<(SourceId, Stream), Known>);

#[derive(Debug)]
struct Known {
    meta: Arc<SourceMeta>,
    /// Days since 1970.
    day: i64,
    path: Arc<str>,
}

impl Paths {
    /// Where the records of a stream of `frame` belong; `ts` is in nanoseconds since 1970.
    pub(super) fn of(
        &mut self,
        template: &Template,
        frame: &Frame,
        stream: Stream,
        ts: i64,
    ) -> Arc<str> {
        let key = (frame.source, stream);
        let day = ts.div_euclid(DAY_SECONDS * time::SECOND);
        if let Some(known) = self.0.get(&key) {
            let is_same = Arc::ptr_eq(&known.meta, &frame.meta) || known.meta == frame.meta;
            if known.day == day && is_same {
                return known.path.clone();
            }
        }
        if self.0.len() >= PATHS_KEPT_MAX {
            self.0.clear();
        }
        let path: Arc<str> = template.expand_path(&frame.meta, stream, ts).into();
        self.0.insert(key, Known { meta: frame.meta.clone(), day, path: path.clone() });
        path
    }
}
