//! What would be rotated now, and how: for people who ask before it is done.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::decide::{self, Act, Active, Appends, Held, Why};
use super::intent::{Intent, IntentError, Intents};
use super::place::Place;
use super::writers::{self, Surroundings};
use super::{RotateError, appends, lease};
use crate::files::patterns::Patterns;
use crate::rotation::{Policy, Wishes};
use crate::time;

/// A file that a rule rotates.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its name.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes on disk.
    pub allocated: u64,
    /// Inode and birth time: which file has the name.
    pub inode: (u64, Option<i64>),
    /// What is done with it.
    pub policy: Policy,
    /// It is large or old enough.
    pub is_due: bool,
    /// What would be done, if all of it were shipped.
    pub act: Act,
    /// Containers that may write to it, and how each is told.
    pub writers: Vec<String>,
    /// The labels of these two contradict each other.
    pub contradiction: Option<(String, String)>,
    /// Rotated files that are kept, and their bytes.
    pub kept: (u64, u64),
    /// Renamed files of it that still have a writer, or something unread.
    pub draining: usize,
}

/// Looks at every file of a rule. `around`: what the engine said, when it answers.
pub fn look(
    patterns: &Patterns,
    wishes: &Wishes,
    around: Option<&Surroundings>,
    state: &Path,
) -> Result<Vec<Look>, RotateError> {
    let intents = Intents::at(state).all().or_else(none_yet)?;
    let intents: Vec<Intent> = intents.into_iter().map(|(_, intent)| intent).collect();
    let made = intents.iter().filter_map(|intent| match intent {
        Intent::Rename(renamed) => Some(renamed.rotated.as_path()),
        Intent::Kept(kept) => Some(kept.path.as_path()),
        Intent::Collapse { .. } => None,
    });
    let made: HashSet<&Path> = made.collect();
    let mut looks = Vec::new();
    for (directory, names) in patterns.list().directories {
        let beside: HashSet<&OsStr> = names.iter().map(|named| named.name.as_os_str()).collect();
        for named in &names {
            let path = directory.join(&named.name);
            let is_made = made.contains(path.as_path());
            // What cannot be looked at is told by `check`.
            if patterns.is_written(&path, &beside)
                && !is_made
                && let Ok(Some(look)) = look_at(patterns, &path, wishes, around, &intents)
            {
                looks.push(look);
            }
        }
    }
    looks.sort_by(|left, right| left.path.cmp(&right.path));
    looks.dedup_by(|left, right| left.path == right.path);
    Ok(looks)
}

/// A state directory that is not there holds nothing.
fn none_yet(error: IntentError) -> Result<Vec<(String, Intent)>, IntentError> {
    match error {
        IntentError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        error => Err(error),
    }
}

fn look_at(
    patterns: &Patterns,
    path: &Path,
    wishes: &Wishes,
    around: Option<&Surroundings>,
    intents: &[Intent],
) -> std::io::Result<Option<Look>> {
    let place = Place::of(patterns, path)?;
    let Some(opened) = place.open()? else { return Ok(None) };
    let writers = around.map(|around| around.writers(path));
    let (said, contradiction) = match writers::wishes(writers.as_deref().unwrap_or_default()) {
        Ok(said) => (said, None),
        Err(both) => (Wishes::default(), Some(both)),
    };
    let policy = said.or(wishes).policy();
    let told = writers.as_deref().map(|all| writers::tellings(all, &policy.reopen));
    let of_it = |intent: &&Intent| intent.base() == path;
    let kept = intents.iter().filter(of_it).filter_map(|intent| match intent {
        Intent::Kept(kept) => Some(kept.bytes),
        _ => None,
    });
    let kept = kept.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
    let draining = intents.iter().filter(of_it).filter(|i| matches!(i, Intent::Rename(_))).count();
    let held = lease::probe(&opened.file);
    let active = Active {
        size: opened.facts.size,
        allocated: opened.allocated,
        since: opened.facts.identity.born.unwrap_or(opened.facts.modified),
        is_forced: true,
        safe: opened.facts.size,
        held,
        appends: match held {
            _ if policy.append => Appends::All,
            Held::No => Appends::Unknown,
            Held::Yes | Held::Unknown => appends::look(&opened.file, Path::new("/proc")),
        },
        can_collapse: true,
        told: told.as_ref().map(Vec::len),
        draining,
        links: opened.facts.links,
        is_read_only: place.is_read_only()?,
    };
    let now = time::now();
    let shown = writers.unwrap_or_default().into_iter().map(|writer| {
        let way = writer.wishes.reopen.clone().unwrap_or_else(|| policy.reopen.clone());
        format!("{} ({way})", writer.name)
    });
    Ok(Some(Look {
        path: path.to_owned(),
        size: opened.facts.size,
        allocated: opened.allocated,
        inode: (opened.facts.identity.inode, opened.facts.identity.born),
        is_due: decide::is_due(&policy, &Active { is_forced: false, ..active }, now),
        act: match path.to_str() {
            Some(_) => decide::active(&policy, &active, now),
            None => Act::Wait(Why::Name),
        },
        writers: shown.collect(),
        contradiction,
        policy,
        kept,
        draining,
    }))
}

/// Whether nothing can be changed in a directory.
#[must_use]
pub fn is_read_only(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|told| told.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
