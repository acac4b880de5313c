//! The paths of sources, so that they are not made anew for every batch, and which of them two sources share.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::record::Stream;
use crate::source::{Origin, SourceId, SourceMeta};
use crate::template::Template;
use crate::time;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Most paths that are kept; beyond it they are made anew.
const PATHS_KEPT_MAX: usize = 4096;

/// Seconds of a day: what a date in a path changes with.
const DAY_SECONDS: i64 = 86_400;

/// Most paths of two sources that are warned of; `check` tells of all.
const SHARED_TOLD_MAX: usize = 100;

/// Paths that were made from one template.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: HashMap<(SourceId, Stream), Known>,
    owners: Owners,
    shared_told: usize,
}

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
        if let Some(known) = self.known.get(&key) {
            let is_same = Arc::ptr_eq(&known.meta, &frame.meta) || known.meta == frame.meta;
            if known.day == day && is_same {
                return known.path.clone();
            }
        }
        if self.known.len() >= PATHS_KEPT_MAX {
            self.known.clear();
        }
        let path: Arc<str> = template.expand_path(&frame.meta, stream, ts).into();
        if template.has_source() {
            self.note(&path, &frame.meta);
        }
        self.known.insert(key, Known { meta: frame.meta.clone(), day, path: path.clone() });
        path
    }

    /// Says when two sources have one path.
    fn note(&mut self, path: &Arc<str>, meta: &Arc<SourceMeta>) {
        if self.owners.first.len() >= PATHS_KEPT_MAX {
            self.owners.first.clear();
        }
        if let Some(shared) = self.owners.add(path, meta)
            && self.shared_told < SHARED_TOLD_MAX
        {
            self.shared_told += 1;
            tracing::warn!("{shared}");
        }
    }
}

/// One file that gets the lines of two sources, although the template names each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPath {
    /// The file that is written.
    pub path: String,
    /// The source that had it first.
    pub first: String,
    /// The other one.
    pub second: String,
}

impl std::fmt::Display for SharedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, first, second } = self;
        write!(
            f,
            "{path} gets the lines of {first} and of {second}: {{path}} in the URL of the sink keeps files apart"
        )
    }
}

/// Which source has which path.
#[derive(Debug, Default)]
struct Owners {
    /// By path: who had it first, and whether it is known that another one has it too.
    first: HashMap<Arc<str>, (Arc<SourceMeta>, bool)>,
}

impl Owners {
    /// A source has a path; told once for each path that another one has it too. Rotated files, and containers that are
    /// made anew, are the same source to who reads.
    fn add(&mut self, path: &Arc<str>, meta: &Arc<SourceMeta>) -> Option<SharedPath> {
        let (first, is_told) =
            self.first.entry(path.clone()).or_insert_with(|| (meta.clone(), false));
        if *is_told || first.origin.has_name_of(&meta.origin) {
            return None;
        }
        *is_told = true;
        let (first, second) = (first.origin.name().to_owned(), meta.origin.name().to_owned());
        Some(SharedPath { path: path.to_string(), first, second })
    }
}

/// The paths that two of these sources share, although the template names each; `ts` is in nanoseconds since 1970.
pub(super) fn shared<'a>(
    template: &Template,
    sources: impl Iterator<Item = &'a Arc<SourceMeta>>,
    ts: i64,
) -> Vec<SharedPath> {
    if !template.has_source() {
        return Vec::new();
    }
    let mut owners = Owners::default();
    let shared = sources.filter_map(|meta| {
        let stream = match meta.origin {
            Origin::Engine { .. } => Stream::Stdout,
            Origin::File { .. } => Stream::File,
        };
        owners.add(&template.expand_path(meta, stream, ts).into(), meta)
    });
    shared.collect()
}
