//! Rotated files that are over: looked after, kept, removed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{RotateStats, Rotator};
use crate::rotate::keep::{Kept, excess};
use crate::rotate::names::COMPRESSED;
use crate::rotate::place::Place;
use crate::rotation::Keep;
use crate::time;

impl Rotator {
    /// Looks after the kept files: gone, or written to again.
    pub(super) fn tend_kept(&mut self) {
        let names: Vec<String> = self.kept.keys().cloned().collect();
        for name in names {
            if let Err(error) = self.tend_one_kept(&name) {
                let path = self.kept.get(&name).map(|kept| kept.path.display().to_string());
                tracing::debug!(path, %error, "cannot look after a rotated file");
            }
        }
    }

    fn tend_one_kept(&mut self, name: &str) -> io::Result<()> {
        let Some(kept) = self.kept.get(name) else { return Ok(()) };
        let place = Place::of(&self.patterns, &kept.path)?;
        let is_packed = kept.path.as_os_str().to_string_lossy().ends_with(COMPRESSED);
        match place.facts()?.filter(|facts| facts.identity == kept.file) {
            None => {
                self.intents.remove(name);
                self.kept.remove(name);
            }
            Some(facts) if facts.size == kept.bytes || is_packed => {}
            Some(_) => {
                let path = kept.path.display().to_string();
                tracing::warn!(path, "somebody writes to a rotated file: it is read again");
                self.drain_again(name)?;
            }
        }
        Ok(())
    }

    /// What is said of the rotated files of a log that stay: what labels say now, or else what they said when it was
    /// rotated, or else the operator; `None` while nobody knows what labels say.
    pub(super) fn keep_of(&self, base: &Path, said_then: Keep) -> Option<Keep> {
        let said_now = self.labelled(base)?;
        Some(said_now.or(said_then).or(self.settings.wishes.keep()))
    }

    /// Removes the rotated files that are too many, too old, or too large together.
    pub(super) fn keep(&mut self) {
        let mut by_base: BTreeMap<PathBuf, Vec<(i64, String)>> = BTreeMap::new();
        for (name, kept) in &self.kept {
            by_base.entry(kept.base.clone()).or_default().push((kept.begun, name.clone()));
        }
        for (base, mut names) in by_base {
            names.sort_unstable();
            let all: Option<Vec<(Kept, Keep)>> = names
                .iter()
                .filter_map(|(_, name)| self.kept.get(name))
                .map(|kept| {
                    let keep = self.keep_of(&base, kept.keep)?;
                    Some((Kept { bytes: kept.bytes, rotated: kept.begun }, keep))
                })
                .collect();
            // What a label may say is not forgotten while the engine is away.
            let Some(all) = all else { continue };
            let goes = excess(&all, time::now());
            for ((_, name), _) in names.iter().zip(goes).filter(|(_, goes)| *goes) {
                if let Err(error) = self.remove_kept(name) {
                    RotateStats::add(&self.stats().faults, 1);
                    tracing::warn!(path = %base.display(), %error, "cannot remove a rotated file");
                }
            }
        }
    }

    fn remove_kept(&mut self, name: &str) -> io::Result<()> {
        let Some(kept) = self.kept.get(name).cloned() else { return Ok(()) };
        let place = Place::of(&self.patterns, &kept.path)?;
        if let Some(opened) = place.open()?.filter(|opened| opened.facts.identity == kept.file) {
            if opened.facts.size != kept.bytes
                || !self.remove_unless_written(&place, &opened, &kept.base)?
            {
                // Its turn comes again, when it was looked after.
                return Ok(());
            }
            RotateStats::add(&self.stats().removed_bytes, kept.bytes);
            tracing::info!(path = %kept.path.display(), "a rotated file was removed");
        }
        self.intents.remove(name);
        self.kept.remove(name);
        Ok(())
    }
}
