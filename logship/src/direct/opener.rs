//! Opens log files as soon as they exist. The engine deletes a file after `max-file` rotations, which takes a busy
//! container less than a second; a file that is open by then can be read in peace.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chores_common::engine::Container;
use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;

use crate::cursor::FileIdentity;
use crate::followed::{FollowedTable, Way};
use crate::proof::hash;
use crate::watch::{Change, Watch, WatchId, What};

use super::content::Content;
use super::facts;
use super::follow::NextFile;
use super::found::{Found, LogPlace, Newer, is_id};
use super::mailbox::{Mailbox, Opening};
use super::pin::Pins;
use super::{ContainerPlan, Plans};

/// Files of one container that may be open at a time, those that the engine has deleted included.
pub const HELD_FILES_MAX: usize = 256;

/// Files of one container that are remembered, so that an old one is not taken for a new one.
const KNOWN_FILES_MAX: usize = 1024;

/// How often everything is looked at, whatever the kernel has told.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// How often a container that may open no more files is looked at.
const BLOCKED_EVERY: Duration = Duration::from_millis(100);

/// Longest wait for the kernel, so that a request to stop is seen.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Watches the directory of the engine's containers.
pub struct Opener {
    directory: PathBuf,
    plans: Plans,
    mailbox: Arc<Mailbox>,
    table: Arc<FollowedTable>,
    pins: Option<Pins>,
    watch: Watch,
    root: Option<WatchId>,
    by_watch: HashMap<WatchId, String>,
    tracked: HashMap<String, Tracked>,
    said: Option<String>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A container of which there is a directory.
#[derive(Debug)]
struct Tracked {
    directory: PathBuf,
    watches: Vec<WatchId>,
    facts: Option<Arc<Container>>,
    /// What the files were that `facts` were read from.
    stamp: Option<facts::Stamp>,
    plan: Option<ContainerPlan>,
    place: Option<LogPlace>,
    /// Known files, oldest first.
    known: VecDeque<Known>,
    /// The newest of them.
    newest: Option<Found>,
    held: Arc<AtomicUsize>,
    is_blocked: bool,
    /// It was looked at as a whole after it was watched.
    is_watched: bool,
}

/// A file that was opened before.
#[derive(Debug)]
struct Known {
    identity: FileIdentity,
    /// Length and hash of its beginning, once it is not written any more.
    head: Option<(usize, u64)>,
}

impl Opener {
    /// Of `directory`, which is the engine's own or a mount of it.
    pub fn new(
        directory: PathBuf,
        plans: Plans,
        mailbox: Arc<Mailbox>,
        table: Arc<FollowedTable>,
        pins: Option<Pins>,
    ) -> io::Result<Self> {
        Ok(Self {
            directory,
            plans,
            mailbox,
            table,
            pins,
            watch: Watch::new()?,
            root: None,
            by_watch: HashMap::new(),
            tracked: HashMap::new(),
            said: None,
        })
    }

    /// Opens until the shutdown.
    pub fn run(&mut self, shutdown: &Shutdown) {
        let mut changes = Vec::new();
        let mut reconciled: Option<Instant> = None;
        while !shutdown.is_requested() {
            if reconciled.is_none_or(|at| at.elapsed() >= RECONCILE_EVERY) {
                self.reconcile();
                reconciled = Some(Instant::now());
            }
            let is_blocked = self.tracked.values().any(|tracked| tracked.is_blocked);
            let time = if is_blocked { BLOCKED_EVERY } else { WAIT_MAX };
            if let Err(error) = self.watch.wait(time, &mut changes) {
                self.say(format!("cannot wait for changes of log files: {error}"));
                std::thread::sleep(time);
            }
            if self.changed(changes.drain(..)) {
                reconciled = None;
            }
            let blocked: Vec<String> = self
                .tracked
                .iter()
                .filter(|(_, tracked)| tracked.is_blocked)
                .map(|(id, _)| id.clone())
                .collect();
            for id in blocked {
                self.look(&id, false);
            }
        }
    }

    /// Looks at everything there is.
    pub fn reconcile(&mut self) {
        if self.root.is_none() {
            match self.watch.add_names(&self.directory) {
                Ok(root) => self.root = Some(root),
                Err(error) => {
                    let directory = self.directory.display();
                    return self
                        .say(format!("cannot watch the log directory {directory}: {error}"));
                }
            }
        }
        let ids = match ids(&self.directory) {
            Ok(ids) => ids,
            Err(error) => {
                let directory = self.directory.display();
                return self.say(format!("cannot list the log directory {directory}: {error}"));
            }
        };
        self.said = None;
        let gone: Vec<String> =
            self.tracked.keys().filter(|id| !ids.contains(id)).cloned().collect();
        for id in gone {
            self.gone(&id);
        }
        for id in ids {
            self.look(&id, true);
        }
        if let Some(pins) = &mut self.pins {
            let formats = self.tracked.iter();
            let formats =
                formats.filter_map(|(id, one)| Some((id.clone(), one.place.as_ref()?.format)));
            pins.release(&formats.collect());
        }
    }

    /// Looks at what changed; `true` when that may be everything.
    fn changed(&mut self, changes: impl Iterator<Item = Change>) -> bool {
        let mut everything = false;
        // Files and facts of a container, each looked at once however often they changed.
        let mut dirty: Vec<(String, bool)> = Vec::new();
        for change in changes {
            match change {
                Change::Overflow => everything = true,
                Change::DirectoryGone(watch) if Some(watch) == self.root => {
                    self.root = None;
                    everything = true;
                }
                Change::DirectoryGone(watch) => {
                    if let Some(id) = self.by_watch.remove(&watch)
                        && let Some(tracked) = self.tracked.get(&id)
                        && !tracked.directory.exists()
                    {
                        self.gone(&id);
                    }
                }
                Change::Name { directory, name, what } if Some(directory) == self.root => {
                    if let Some(id) = name.to_str().filter(|name| is_id(name)) {
                        match what {
                            What::Vanished => self.gone(id),
                            _ => note(&mut dirty, id, true),
                        }
                    }
                }
                Change::Name { directory, name, what } => {
                    if what == What::Appeared
                        && let Some(id) = self.by_watch.get(&directory)
                    {
                        let is_facts = name.as_encoded_bytes().ends_with(b".json")
                            || name.as_encoded_bytes() == b"local-logs";
                        note(&mut dirty, id, is_facts);
                    }
                }
            }
        }
        for (id, with_facts) in dirty {
            self.look(&id, with_facts);
        }
        everything
    }

    fn gone(&mut self, id: &str) {
        let Some(tracked) = self.tracked.remove(id) else { return };
        for watch in tracked.watches {
            self.by_watch.remove(&watch);
            self.watch.remove(watch);
        }
        self.table.remove(id);
        if tracked.newest.is_some() {
            self.mailbox.post(id, |letter| letter.is_gone = true);
        }
    }

    /// Looks at one container: at what the engine says of it, if `with_facts`, and at its files.
    fn look(&mut self, id: &str, with_facts: bool) {
        let tracked = self.tracked.entry(id.to_owned()).or_insert_with(|| Tracked {
            directory: self.directory.join(id),
            watches: Vec::new(),
            facts: None,
            stamp: None,
            plan: None,
            place: None,
            known: VecDeque::new(),
            newest: None,
            held: Arc::default(),
            is_blocked: false,
            is_watched: false,
        });
        if !tracked.is_watched {
            // Watched first and looked at then: what comes between is seen.
            for directory in [tracked.directory.clone(), tracked.directory.join("local-logs")] {
                if let Ok(watch) = self.watch.add_names(&directory)
                    && !tracked.watches.contains(&watch)
                {
                    tracked.watches.push(watch);
                    self.by_watch.insert(watch, id.to_owned());
                }
            }
        }
        let result = tracked.facts(with_facts, &self.plans).and_then(|news| {
            if news && let (Some(facts), Some(plan)) = (&tracked.facts, &tracked.plan) {
                self.table.set(id, &facts.name, Way::Direct);
                let facts = Some((facts.clone(), plan.clone()));
                self.mailbox.post(id, |letter| letter.facts = facts);
            }
            tracked.files(id, &self.mailbox, self.pins.as_ref())
        });
        if let Err(error) = result {
            let directory = tracked.directory.display().to_string();
            // A container that is being removed goes while it is looked at.
            if error.kind() != io::ErrorKind::NotFound {
                self.say(format!("cannot read the log directory {directory}: {error}"));
            }
        }
    }

    /// Says what is wrong, once as long as it stays the same.
    fn say(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!("{what}");
            self.said = Some(what);
        }
    }
}

impl Tracked {
    /// Reads what the engine says of the container; `true` when that is new.
    fn facts(&mut self, again: bool, plans: &Plans) -> io::Result<bool> {
        if self.facts.is_some() && !again {
            return Ok(false);
        }
        // Before they are read: what changes meanwhile is another stamp the next time.
        let stamp = facts::stamp(&self.directory)?;
        if self.facts.is_some() && stamp.is_some() && stamp == self.stamp {
            return Ok(false);
        }
        let Some(facts) = facts::read(&self.directory)? else { return Ok(false) };
        self.stamp = stamp;
        if self.facts.as_deref() == Some(&facts) {
            return Ok(false);
        }
        self.plan = plans(&facts);
        self.facts = Some(Arc::new(facts));
        Ok(true)
    }

    /// Opens the files that are new.
    fn files(&mut self, id: &str, mailbox: &Mailbox, pins: Option<&Pins>) -> io::Result<()> {
        if self.plan.is_none() {
            return Ok(());
        }
        if self.place.is_none() {
            self.place = LogPlace::all(&self.directory, id).into_iter().find(LogPlace::exists);
        }
        let Some(place) = self.place.clone() else { return Ok(()) };
        let known = &self.known;
        let is_known = |identity| known.iter().any(|known| known.identity == identity);
        let Newer { mut files, mut follows } = place.open_newer(is_known)?;
        let is_first = self.newest.is_none();
        if !follows && !is_first {
            follows = self.leave_out_compressed(&mut files);
        }
        if is_first
            && !files.is_empty()
            && let Some(pins) = pins
        {
            pins.merge(id, place.format, &mut files)?;
        }
        files.reverse();
        let room = HELD_FILES_MAX.saturating_sub(self.held.load(Ordering::Relaxed));
        self.is_blocked = files.len() > room;
        files.truncate(room);
        if files.is_empty() {
            return Ok(());
        }
        if let (Some(newest), Some(known)) = (&self.newest, self.known.back_mut()) {
            let head = Content::new(newest).head()?;
            known.head = Some((head.len(), hash(&head)));
        }
        for file in &files {
            let pinned = pins.map_or(Ok(()), |pins| pins.add(id, file));
            // It is read all the same; only a restart could miss it.
            if let Err(error) = pinned {
                tracing::warn!("{}", chain(&error));
            }
        }
        self.held.fetch_add(files.len(), Ordering::Relaxed);
        for file in &files {
            self.known.push_back(Known { identity: file.identity, head: None });
            if self.known.len() > KNOWN_FILES_MAX {
                self.known.pop_front();
            }
        }
        self.newest = files.last().cloned();
        let opening = is_first.then(|| Opening { format: place.format, held: self.held.clone() });
        let facts = self.facts.clone().zip(self.plan.clone());
        mailbox.post(id, |letter| {
            for (index, found) in files.into_iter().enumerate() {
                letter.files.push(NextFile { found, follows: follows || is_first || index > 0 });
            }
            if opening.is_some() {
                letter.opening = opening;
                letter.facts = facts;
            }
        });
        Ok(())
    }

    /// Takes out of `files`, newest first, what is a known file in its compressed form, and everything older.
    /// `true` when there was one.
    fn leave_out_compressed(&mut self, files: &mut Vec<Found>) -> bool {
        if let (Some(newest), Some(known)) = (&self.newest, self.known.back_mut())
            && let Ok(head) = Content::new(newest).head()
        {
            known.head = Some((head.len(), hash(&head)));
        }
        let is_known = |found: &Found| {
            let Ok(head) = Content::new(found).head() else { return false };
            found.is_compressed
                && self.known.iter().filter_map(|known| known.head).any(|(length, known)| {
                    length > 0 && head.get(..length).is_some_and(|head| hash(head) == known)
                })
        };
        let Some(index) = files.iter().position(is_known) else { return false };
        files.truncate(index);
        true
    }
}

fn note(dirty: &mut Vec<(String, bool)>, id: &str, with_facts: bool) {
    match dirty.iter_mut().find(|(known, _)| known == id) {
        Some((_, known)) => *known |= with_facts,
        None => dirty.push((id.to_owned(), with_facts)),
    }
}

/// Containers that have a directory.
fn ids(directory: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string()
            && is_id(&name)
        {
            ids.push(name);
        }
    }
    Ok(ids)
}
