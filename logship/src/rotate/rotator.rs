//! The loop: looks at files, lets `decide` say what to do, writes it down, does it.

mod cut;
mod kept;
mod old;
mod surroundings;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;

use super::decide::{self, Act, Active, Appends, Held, Why};
use super::intent::{Intent, Intents, KeptFile, Renamed};
use super::place::{Opened, Place};
use super::wanted::Wanted;
use super::writers::{self, Writer};
use super::{RotateError, RotateSettings, RotateStats, appends, fresh, lease, names};
use crate::cursor::{Cursor, FileCursor, FileIdentity};
use crate::files::desk::{Answer, Ask};
use crate::files::patterns::Patterns;
use crate::files::{HELD_TIME, key_of};
use crate::proof::FileFacts;
use crate::rotation::{Keep, Policy, Reopen};
use crate::time;
use crate::wal::Log;
use surroundings::EngineView;
use told::Tellings;

#[cfg(test)]
mod tests;

/// Time between two rounds.
const ROUND_EVERY: Duration = Duration::from_millis(100);

/// Longest sleep: how late a shutdown is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How long it is believed that not all writers of a file append.
const APPENDS_AGE_MAX: Duration = Duration::from_secs(10);

/// How long a file waits for a look at how its writers write: then its disk is freed, which needs none.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Time between two looks for files.
const LIST_EVERY: Duration = Duration::from_secs(2);

/// Time between two looks at rotated files that are kept.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// How long the thread that reads is asked nothing after it had no time for a question.
const BUSY_PAUSE: Duration = Duration::from_secs(15);

/// The same is said of a file so often, and so many things in that time.
const SAY_EVERY: Duration = Duration::from_secs(60);
const SAID_MAX: usize = 8;

/// Files that are looked at between two looks for files: those that have at least this part of their size.
const HOT_SHARE: u64 = 4;

/// Files of one directory of which something is remembered, at the most: whoever writes there must not take the room
/// of the others.
const DIRECTORY_FILES_MAX: usize = 1_000;

/// The same in all directories together.
const FILES_MAX: usize = 100_000;

/// How long the rotated files of a log stay such after the log is gone: its writer may open it again.
const BASE_GONE_MAX: Duration = Duration::from_secs(600);

/// Rotated files that are kept, of all logs together, at the most: then files are cut instead of renamed.
const KEPT_MAX: usize = 100_000;

/// Longest pause before something that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A file under its own name, as it was last looked at.
#[derive(Debug)]
struct Known {
    /// When it was made or last cut.
    since: i64,
    identity: FileIdentity,
    is_forced: bool,
    /// It may become due before the next list.
    is_hot: bool,
    /// What was said of it, and when.
    said: HashMap<String, Instant>,
    /// Bytes of it that were freed.
    punched: u64,
    /// Its beginning cannot be taken away.
    is_whole: bool,
    /// How its writers write, and when that was looked at.
    looked: Option<(Appends, Instant)>,
    /// Since when it waits for that.
    waits: Option<Instant>,
}

impl Known {
    fn new(identity: FileIdentity, since: i64) -> Self {
        let (is_forced, is_hot) = (false, true);
        Self {
            since,
            identity,
            is_forced,
            is_hot,
            said: HashMap::new(),
            punched: 0,
            is_whole: false,
            looked: None,
            waits: None,
        }
    }

    /// Takes note of what has the name now; another file was made at `since`.
    fn see(&mut self, facts: &FileFacts, since: i64) {
        if self.identity != facts.identity {
            (self.identity, self.since) = (facts.identity, since);
            (self.punched, self.is_whole) = (0, false);
            (self.looked, self.waits) = (None, None);
        }
        if facts.size < self.punched {
            // Another program has cut it: nothing of what it holds now was freed.
            (self.punched, self.is_whole) = (0, false);
        }
    }
}

/// How far a file is safe.
#[derive(Debug, Default)]
struct Safe {
    /// What lasts.
    settled: Option<(FileCursor, bool)>,
    /// What will, once the log is safe up to there.
    pending: Option<(u64, FileCursor, bool)>,
}

/// A rotation that goes on.
#[derive(Debug)]
struct Record {
    intent: Intent,
    /// The file at its name was made, or somebody else made it.
    has_new: bool,
    told: Option<Instant>,
    tellings: u32,
    /// The last telling failed.
    is_untold: bool,
    /// What is told again.
    writers: Option<Vec<(Writer, Reopen)>>,
    /// Size and time of change when it was last looked at, and since when.
    seen: Option<(u64, i64, Instant)>,
    /// Bytes of it that were freed.
    punched: u64,
    said: Option<Instant>,
    /// How often in a row it failed, and when it is tried again.
    failures: u32,
    again: Option<Instant>,
    /// How often it could not be compressed.
    unpacked: u32,
}

impl Record {
    fn new(intent: Intent) -> Self {
        Self {
            intent,
            has_new: false,
            told: None,
            tellings: 0,
            is_untold: false,
            writers: None,
            seen: None,
            punched: 0,
            said: None,
            failures: 0,
            again: None,
            unpacked: 0,
        }
    }

    /// Takes note of the size of the file.
    fn see(&mut self, size: u64) {
        if size < self.punched {
            // Its writer has cut it: nothing of what it holds now was freed.
            self.punched = 0;
        }
    }

    /// It failed: the next attempt has to wait, longer each time.
    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.again = Some(Instant::now() + ROUND_EVERY.saturating_mul(factor).min(RETRY_MAX));
    }
}

/// A file that is being compressed.
#[derive(Debug)]
struct Job {
    record: String,
    /// What the compressed one is to be called.
    name: OsString,
    /// Bytes of the file.
    bytes: u64,
    thread: JoinHandle<io::Result<fresh::Whole>>,
}

/// The state of a run.
#[derive(Debug)]
pub(super) struct Rotator {
    settings: RotateSettings,
    patterns: Patterns,
    log: Log,
    runtime: Handle,
    stop: Shutdown,
    intents: Intents,
    records: BTreeMap<String, Record>,
    kept: BTreeMap<String, KeptFile>,
    known: HashMap<PathBuf, Known>,
    /// Names of which others are rotated ones, and when they were last there.
    bases: HashMap<PathBuf, Instant>,
    safe: HashMap<FileIdentity, Safe>,
    engine: EngineView,
    tellings: Tellings,
    /// Of looks at how writers write.
    pace: appends::Pace,
    /// File systems that cannot take away the beginning of a file.
    without_collapse: HashSet<u64>,
    /// File systems without leases, of which that was said.
    without_leases: HashSet<u64>,
    /// When the thread that reads had no time for a question.
    busy: Option<Instant>,
    job: Option<Job>,
    wish: Option<u64>,
    draining_shown: u64,
    kept_shown: u64,
}

impl Rotator {
    pub(super) fn new(
        settings: RotateSettings,
        log: Log,
        runtime: Handle,
        stop: Shutdown,
    ) -> Result<Self, RotateError> {
        let earlier = settings.earlier.iter();
        let earlier = earlier.map(|(patterns, exclude)| Patterns::new(patterns, exclude));
        let earlier = earlier.collect::<Result<_, _>>()?;
        let patterns = Patterns::new(&settings.paths, &settings.exclude)?.after(earlier);
        let intents = Intents::at(&settings.state);
        let (mut records, mut kept) = (BTreeMap::new(), BTreeMap::new());
        for (name, intent) in intents.all()? {
            match intent {
                intent if !patterns.is_meant(intent.base()) => {}
                Intent::Kept(file) => drop(kept.insert(name, file)),
                intent => drop(records.insert(name, Record::new(intent))),
            }
        }
        let engine = EngineView::new(settings.engine.clone(), runtime.clone());
        Ok(Self {
            settings,
            patterns,
            log,
            runtime,
            stop,
            intents,
            records,
            kept,
            known: HashMap::new(),
            bases: HashMap::new(),
            safe: HashMap::new(),
            engine,
            tellings: Tellings::default(),
            pace: appends::Pace::default(),
            without_collapse: HashSet::new(),
            without_leases: HashSet::new(),
            busy: None,
            job: None,
            wish: None,
            draining_shown: 0,
            kept_shown: 0,
        })
    }

    pub(super) fn run(&mut self) {
        let (mut listed, mut kept) = (None::<Instant>, None::<Instant>);
        while !self.stop.is_requested() {
            let began = Instant::now();
            if listed.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
                self.list();
                listed = Some(Instant::now());
            }
            self.take_wish();
            let hot = self.known.iter().filter(|(_, known)| known.is_hot || known.is_forced);
            // Those whose writers were looked at longest ago come first: not all can be looked at in one round.
            let looked = |known: &Known| known.looked.map(|(_, at)| at);
            let mut hot: Vec<(Option<Instant>, PathBuf)> =
                hot.map(|(path, known)| (looked(known), path.clone())).collect();
            hot.sort_unstable();
            for (_, path) in hot {
                if let Err(error) = self.consider(&path) {
                    self.is_not_rotated(&path, &format!("it cannot be looked at: {error}"));
                }
            }
            self.end_tellings();
            let records: Vec<String> = self.records.keys().cloned().collect();
            for name in records {
                self.tend(&name);
            }
            self.end_job();
            if kept.is_none_or(|at| at.elapsed() >= KEEP_EVERY) {
                self.tend_kept();
                self.keep();
                kept = Some(Instant::now());
            }
            self.show();
            while began.elapsed() < ROUND_EVERY && !self.stop.is_requested() {
                std::thread::sleep(SLEEP_MAX.min(ROUND_EVERY.saturating_sub(began.elapsed())));
            }
        }
        if let Some(job) = self.job.take() {
            // It sees the same request to stop; what it has made so far has no name.
            drop(job.thread.join());
        }
    }

    /// Finds the files that are meant.
    fn list(&mut self) {
        // Labels may say what nobody else does.
        self.engine.ask(false);
        let listing = self.patterns.list();
        let mut found = HashSet::new();
        let made = self.made();
        self.bases.retain(|_, at| at.elapsed() < BASE_GONE_MAX);
        for (directory, names) in &listing.directories {
            let names = names.iter().map(|named| named.name.as_os_str());
            let beside: HashSet<&OsStr> = names.clone().collect();
            // It was there a moment ago.
            let Ok(all) = self.patterns.facts_in(directory, names) else { continue };
            let mut in_directory = 0;
            for (path, facts) in all {
                let Ok(facts) = facts else { continue };
                let is_full = in_directory >= DIRECTORY_FILES_MAX || found.len() >= FILES_MAX;
                if !facts.is_regular
                    || is_full
                    || made.contains(&path)
                    || !self.is_active(&path, &beside)
                {
                    continue;
                }
                in_directory += 1;
                let policy = self.policy(&path);
                let since = facts.identity.born.unwrap_or(facts.modified);
                let known = self.known.entry(path.clone());
                let known = known.or_insert_with(|| Known::new(facts.identity, since));
                known.see(&facts, since);
                let is_due = decide::is_due(&policy, &looked_at(&facts, Some(known)), time::now());
                // A cursor has to be known before it is needed; a file that grows slowly is looked at here only.
                let is_large = policy.size.is_some_and(|size| facts.size >= size / HOT_SHARE);
                known.is_hot = is_large || is_due;
                found.insert(path);
            }
        }
        self.known.retain(|path, _| found.contains(path));
        let known = self.known.values().map(|known| known.identity);
        let records = self.records.values().filter_map(|record| match &record.intent {
            Intent::Rename(renamed) => Some(renamed.file),
            Intent::Collapse { begun, .. } => Some(begun.file),
            Intent::Kept(_) => None,
        });
        let needed: HashSet<FileIdentity> = known.chain(records).collect();
        self.safe.retain(|identity, _| needed.contains(identity));
    }

    /// Whether a path, beside which are these names, is of a file under its own name.
    fn is_active(&mut self, path: &Path, beside: &HashSet<&OsStr>) -> bool {
        let is_written = self.patterns.is_written(path, beside);
        for base in self.patterns.bases_of(path) {
            if base.file_name().is_some_and(|name| beside.contains(name)) {
                if self.bases.len() < FILES_MAX || self.bases.contains_key(&base) {
                    self.bases.insert(base, Instant::now());
                }
            } else if self.bases.contains_key(&base) {
                // A rotation of somebody else may have taken it away, and its writer not made it anew yet.
                return false;
            }
        }
        is_written
    }

    /// Names that rotations made.
    fn made(&self) -> HashSet<PathBuf> {
        let renamed = self.records.values().filter_map(|record| match &record.intent {
            Intent::Rename(renamed) => Some(renamed.rotated.clone()),
            Intent::Collapse { .. } | Intent::Kept(_) => None,
        });
        renamed.chain(self.kept.values().map(|kept| kept.path.clone())).collect()
    }

    /// Takes up what `logship rotate` asks for.
    fn take_wish(&mut self) {
        let Some(wanted) = Wanted::read(&self.settings.state) else {
            if self.wish.take().is_some() {
                // Whoever asked has gone away.
                self.known.values_mut().for_each(|known| known.is_forced = false);
            }
            return;
        };
        if self.wish == Some(wanted.id) {
            return;
        }
        self.wish = Some(wanted.id);
        for path in wanted.paths {
            if let Some(known) = self.known.get_mut(&path) {
                tracing::info!(path = %path.display(), "is rotated, since it was asked for");
                known.is_forced = true;
            }
        }
    }

    /// What is done with a file: what is set, refined by the labels of those that may write it.
    fn policy(&self, path: &Path) -> Policy {
        let writers = self.engine.last().map(|around| around.writers(path));
        self.policy_with(&writers.unwrap_or_default()).0
    }

    /// The same for these writers, and two of them whose labels contradict each other: then none counts.
    fn policy_with(&self, writers: &[Writer]) -> (Policy, Option<(String, String)>) {
        match writers::wishes(writers) {
            Ok(wishes) => (wishes.or(&self.settings.wishes).policy(), None),
            Err(both) => (self.settings.wishes.policy(), Some(both)),
        }
    }

    /// What the labels of those that may write a file say of the rotated ones that stay; `None` while nobody knows.
    fn labelled(&self, path: &Path) -> Option<Keep> {
        match self.engine.last() {
            Some(around) => Some(writers::keep(&around.writers(path))),
            None => self.engine.is_none().then(Keep::default),
        }
    }

    /// Looks at a file under its own name, and does what is to be done.
    fn consider(&mut self, path: &Path) -> io::Result<()> {
        if path.to_str().is_none() {
            self.is_not_rotated(path, Why::Name.text());
            return Ok(());
        }
        let place = match Place::of(&self.patterns, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        let Some(opened) = place.open()? else { return Ok(()) };
        let identity = opened.facts.identity;
        let now = time::now();
        let policy = self.policy(path);
        let settled = self.settled(identity);
        let Some(known) = self.known.get_mut(path) else { return Ok(()) };
        known.see(&opened.facts, identity.born.unwrap_or(now));
        let mut active = looked_at(&opened.facts, Some(known));
        active.allocated = opened.allocated;
        active.can_collapse = !known.is_whole;
        if !decide::is_due(&policy, &active, now) || active.size == 0 {
            if active.size == 0 {
                known.is_forced = false;
            }
            return Ok(());
        }
        let is_cut_already = self.records.values().any(|record| {
            matches!(&record.intent, Intent::Collapse { begun, .. } if begun.file == identity)
        });
        if is_cut_already {
            // The log has not heard of the last cut yet.
            return Ok(());
        }
        if place.is_read_only()? {
            self.is_not_rotated(path, Why::ReadOnly.text());
            return Ok(());
        }
        active.held = self.held(&opened);
        active.draining = self.draining(path);
        if self.kept.len() >= KEPT_MAX {
            self.say(path, &format!("{KEPT_MAX} rotated files are kept: no more are made"));
            active.draining = decide::DRAINING_MAX;
        }
        // While nobody could take its beginning away, its disk is freed: it must not grow meanwhile.
        active.can_collapse &= !self.without_collapse.contains(&identity.device) && !self.is_busy();
        active.safe = settled.map_or(0, |(cursor, _)| cursor.offset);
        // What is known already says whether anybody would be told; only then it is asked again.
        let writers = self.engine.writers(path, false);
        let (mut act, mut policy, mut told) =
            self.decide(path, &mut active, writers.as_deref(), now);
        if matches!(act, Act::Rename | Act::Wait(Why::EngineAway))
            && told.as_ref().is_none_or(|told| !told.is_empty())
        {
            let writers = self.engine.writers(path, true);
            (act, policy, told) = self.decide(path, &mut active, writers.as_deref(), now);
        }
        let all = decide::active(&policy, &Active { appends: Appends::All, ..active }, now);
        // Where nothing could be taken away, nobody needs to know how they write.
        if matches!(all, Act::Collapse(_)) {
            let appends =
                if policy.append { Some(Appends::All) } else { self.appends(path, &opened) };
            let Some(appends) = appends else { return Ok(()) };
            active.appends = appends;
            act = decide::active(&policy, &active, now);
        }
        tracing::debug!(path = %path.display(), ?active, ?act, "looked at");
        match act {
            Act::Wait(Why::NotDue | Why::Empty | Why::NotSafe) => {}
            Act::Wait(why) => self.is_not_rotated(path, why.text()),
            Act::Rename => self.rename(&place, &opened, &policy, told),
            Act::Collapse(length) => self.collapse(&place, &opened, settled, length),
            Act::Punch(until) => {
                self.punch(&place, &opened, settled, until, &policy, active.appends);
            }
        }
        Ok(())
    }

    /// What to do with a file that these may write, by which policy, and who is told how.
    fn decide(
        &mut self,
        path: &Path,
        active: &mut Active,
        writers: Option<&[Writer]>,
        now: i64,
    ) -> (Act, Policy, Option<Vec<(Writer, Reopen)>>) {
        let (policy, contradiction) = self.policy_with(writers.unwrap_or_default());
        if let Some((one, other)) = contradiction {
            self.say(
                path,
                &format!(
                    "the labels of {one} and {other} ask for different things: neither counts"
                ),
            );
        }
        let told = writers.map(|all| writers::tellings(all, &policy.reopen));
        active.told = told.as_ref().map(Vec::len);
        (decide::active(&policy, active, now), policy, told)
    }

    /// How the writers of a file write; `None` when that is yet to be looked at, and it is not the time to.
    fn appends(&mut self, path: &Path, opened: &Opened) -> Option<Appends> {
        let known = self.known.get_mut(path)?;
        // That not all of them append is believed for a while, that all do only at the moment.
        let last = known.looked.filter(|(seen, _)| *seen != Appends::All);
        if let Some((seen, at)) = last
            && (at.elapsed() < APPENDS_AGE_MAX || !self.pace.is_due(Instant::now()))
        {
            return Some(seen);
        }
        if !self.pace.is_due(Instant::now()) {
            let since = *known.waits.get_or_insert_with(Instant::now);
            // It must not grow for ever meanwhile.
            return (since.elapsed() >= LOOK_WAIT_MAX).then_some(Appends::Unknown);
        }
        let began = Instant::now();
        let seen = appends::look(&opened.file, Path::new("/proc"));
        self.pace.took(began.elapsed(), Instant::now());
        (known.looked, known.waits) = (Some((seen, Instant::now())), None);
        Some(seen)
    }

    /// Whether somebody writes to a file; where that cannot be known, it is said once.
    fn held(&mut self, opened: &Opened) -> Held {
        let held = lease::probe(&opened.file);
        if held == Held::Unknown && self.without_leases.insert(opened.facts.identity.device) {
            tracing::warn!(
                "whether rotated files still have writers cannot be known here (leases need CAP_LEASE, and a file \
                 system that has them): one that was silent for 60 s is taken for ended, and never compressed; what a \
                 writer adds within {} hours after it was removed is read all the same",
                HELD_TIME.as_secs() / 3600
            );
        }
        held
    }

    /// Renamed files of a log that are not over.
    fn draining(&self, base: &Path) -> usize {
        let of_it = self.records.values().filter(
            |record| matches!(&record.intent, Intent::Rename(renamed) if renamed.base == base),
        );
        of_it.count()
    }

    /// Rename, make anew, tell.
    fn rename(
        &mut self,
        place: &Place,
        opened: &Opened,
        policy: &Policy,
        tellings: Option<Vec<(Writer, Reopen)>>,
    ) {
        if let Err(error) = self.try_rename(place, opened, policy, tellings) {
            RotateStats::add(&self.settings.stats.faults, 1);
            self.is_not_rotated(&place.path, &error.to_string());
        }
    }

    fn try_rename(
        &mut self,
        place: &Place,
        opened: &Opened,
        policy: &Policy,
        tellings: Option<Vec<(Writer, Reopen)>>,
    ) -> io::Result<()> {
        let existing: Vec<OsString> = place.names()?;
        let now = time::now();
        let Some(name) = names::rotated(policy.names, place.name(), &existing, now) else {
            return Err(io::Error::other("there is no name for it that is free and short enough"));
        };
        let to = place.beside(&name)?;
        let empty = fresh::Empty::like(&place.directory, &opened.file)?;
        let intent = Intent::Rename(Renamed {
            base: place.path.clone(),
            rotated: to.path.clone(),
            file: opened.facts.identity,
            begun: now,
            keep: self.labelled(&place.path).unwrap_or_default(),
            over: None,
            packed: None,
        });
        let record = self.intents.add(&intent).map_err(in_words)?;
        self.records.insert(record.clone(), Record::new(intent));
        if place.identity()? != Some(opened.facts.identity) {
            // Somebody else was quicker: the next round sees what there is.
            self.forget(&record);
            return Ok(());
        }
        if let Err(error) = place.rename(&to) {
            self.forget(&record);
            return Err(error);
        }
        RotateStats::add(&self.settings.stats.renamed, 1);
        tracing::info!(path = %place.path.display(), to = %to.path.display(), "rotated");
        if let Some(known) = self.known.get_mut(&place.path) {
            known.is_forced = false;
        }
        let made = empty.name(&place.directory, place.name(), &opened.file);
        let synced = place.sync();
        if let Some(record) = self.records.get_mut(&record) {
            record.has_new = made.is_ok();
        }
        self.tell(&record, tellings);
        made?;
        synced
    }

    /// How far a file is safe, and whether its end is.
    fn settled(&mut self, identity: FileIdentity) -> Option<(FileCursor, bool)> {
        let until = self.log.safe();
        let safe = self.safe.entry(identity).or_default();
        if let Some((_, cursor, is_over)) = safe.pending.take_if(|(at, ..)| *at <= until) {
            safe.settled = Some((cursor, is_over));
        }
        if safe.pending.is_none()
            && let Some(standing) = self.log.standing(&key_of(identity))
            && let Some(Cursor::File(cursor)) = standing.cursor
        {
            if standing.at <= until {
                safe.settled = Some((cursor, standing.is_over));
            } else {
                safe.pending = Some((standing.at, cursor, standing.is_over));
            }
        }
        safe.settled
    }

    /// Asks the thread that reads, unless it had no time for that a moment ago: whoever comes next must not wait for it
    /// all over again.
    fn ask(&mut self, ask: Ask) -> Answer {
        if self.is_busy() {
            return Answer::Busy;
        }
        let answer = self.settings.desk.ask(ask);
        if matches!(answer, Answer::Busy | Answer::Unknown) {
            self.busy = Some(Instant::now());
        }
        answer
    }

    fn is_busy(&self) -> bool {
        self.busy.is_some_and(|at| at.elapsed() < BUSY_PAUSE)
    }

    fn forget(&mut self, record: &str) {
        self.intents.remove(record);
        self.records.remove(record);
    }

    /// Says why a file stays as it is.
    fn is_not_rotated(&mut self, path: &Path, why: &str) {
        self.say(path, &format!("is not rotated: {why}"));
    }

    /// Says something of a file, now and then.
    fn say(&mut self, path: &Path, what: &str) {
        let Some(known) = self.known.get_mut(path) else { return };
        known.said.retain(|_, at| at.elapsed() < SAY_EVERY);
        if known.said.len() < SAID_MAX && !known.said.contains_key(what) {
            known.said.insert(what.to_owned(), Instant::now());
            tracing::warn!(path = %path.display(), "{what}");
        }
    }

    fn show(&mut self) {
        let is_rename = |record: &&Record| matches!(record.intent, Intent::Rename(_));
        let draining = self.records.values().filter(is_rename).count() as u64;
        let kept = self.kept.len() as u64;
        let stats = &self.settings.stats;
        // Several runs share it: each adds what changed.
        let shown = [
            (&stats.draining, draining, std::mem::replace(&mut self.draining_shown, draining)),
            (&stats.kept, kept, std::mem::replace(&mut self.kept_shown, kept)),
        ];
        for (gauge, is, was) in shown {
            gauge.fetch_add(is.wrapping_sub(was), Ordering::Relaxed);
        }
    }

    fn stats(&self) -> &Arc<RotateStats> {
        &self.settings.stats
    }
}

/// What is known of a file before it is opened.
fn looked_at(facts: &FileFacts, known: Option<&Known>) -> Active {
    Active {
        size: facts.size,
        allocated: u64::MAX,
        since: known.map_or(facts.modified, |known| known.since),
        is_forced: known.is_some_and(|known| known.is_forced),
        safe: 0,
        held: Held::Unknown,
        appends: Appends::Unknown,
        can_collapse: false,
        told: None,
        draining: 0,
        links: facts.links,
        is_read_only: false,
    }
}

fn in_words(error: impl std::error::Error + 'static) -> io::Error {
    io::Error::other(chores_common::exit::chain(&error))
}
