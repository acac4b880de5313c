//! The loop: what changes, whose turn it is, what is handed on.

mod asked;
mod copies;
mod names;
mod order;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;

use crate::cursor::{FileCursor, FileIdentity};
use crate::descriptors::is_exhausted;
use crate::files::held::{HELD_TIME, Held};
use crate::files::patterns::Patterns;
use crate::files::reach;
use crate::files::siblings::Candidate;
use crate::files::tailed::{BUFFER_BYTES, Content, Tailed, Turn};
use crate::files::{FilesReport, FilesSettings};
use crate::intake::{Intake, IntakeClosed, Message};
use crate::proof::FileFacts;
use crate::record::{Control, Gap, GapReason};
use crate::rule::Mode;
use crate::source::{Origin, SourceId, SourceKey, SourceMeta};
use crate::time;
use crate::watch::{Change, Watch, WatchId};
use order::Order;

/// How long writes are let to gather before they are read.
const COALESCE: Duration = Duration::from_millis(10);

/// Longest sleep: how late a shutdown is seen.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Longest sleep where files are rotated too.
const DESK_WAIT: Duration = Duration::from_millis(50);

/// Sleep between two attempts to hand something to a log that is full.
const FULL_WAIT: Duration = Duration::from_millis(2);

/// Time between two looks at files that no directory tells of.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Time between two scans where the kernel does not tell of changes.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A file without a name whose writer was not seen to close it is held this many times longer.
const UNCLOSED_FACTOR: u32 = 20;

/// How long a last line waits for its end in a file that has its name still.
const UNFINISHED_MAX: Duration = Duration::from_mins(5);

/// How long what needs a file descriptor waits when there is none.
const STARVED_WAIT: Duration = Duration::from_millis(250);

/// How often what cannot go on without one is tried again, where it cannot be put off.
const STARVED_ATTEMPTS_MAX: u32 = 120;

/// How often it is said that there are none.
const STARVED_TOLD_EVERY: Duration = Duration::from_mins(1);

/// Paths that were warned of, at the most; later ones are not.
const WARNED_MAX: usize = 10_000;

/// A file that may be a copy of one that is read.
#[derive(Debug)]
struct Suspect {
    path: PathBuf,
    original: SourceId,
}

/// The state of a run.
pub(super) struct Follow {
    pub(super) settings: FilesSettings,
    pub(super) patterns: Patterns,
    pub(super) intake: Intake,
    pub(super) mode: Mode,
    pub(super) report: FilesReport,
    watch: Option<Watch>,
    watched: HashMap<PathBuf, WatchId>,
    directories: HashMap<WatchId, PathBuf>,
    /// Directories that had to go unwatched: they are looked at more often.
    has_unwatched: bool,
    pub(super) files: HashMap<SourceId, Tailed>,
    pub(super) by_identity: HashMap<FileIdentity, SourceId>,
    pub(super) by_name: HashMap<PathBuf, SourceId>,
    /// By the name under which it is shipped, the file that was made last.
    latest: HashMap<PathBuf, SourceId>,
    /// Where symbolic links lead to.
    link_targets: HashMap<PathBuf, SourceId>,
    suspects: HashMap<FileIdentity, Suspect>,
    /// Patterns that matched no file at the start; `None` once they were told.
    unmatched: Option<Vec<String>>,
    /// Files of which nothing is read, and their bytes: a shorter one is another one in the same inode.
    pub(super) ignored: HashMap<FileIdentity, u64>,
    /// Files that are read again, and how much of them was shipped.
    pub(super) readmitted: HashMap<FileIdentity, u64>,
    /// Files that our own rotation has removed.
    pub(super) held: Held,
    warned: HashSet<PathBuf>,
    /// Paths of which it was told that they lead out of their directory.
    strayed: HashSet<PathBuf>,
    ready: VecDeque<SourceId>,
    /// Files that hold something back which time hands on.
    waiting: BTreeSet<SourceId>,
    /// Made, and not yet taken by the log. Nothing is read before it is empty.
    pub(super) outbox: VecDeque<Message>,
    buffer: Vec<u8>,
    open: usize,
    /// Files that wait for a file descriptor.
    starved: BTreeSet<SourceId>,
    /// Something else could not be opened: everything is looked at again.
    pub(super) is_starved: bool,
    starved_told: Option<Instant>,
}

impl Follow {
    pub(super) fn new(
        settings: FilesSettings,
        patterns: Patterns,
        intake: Intake,
        mode: Mode,
    ) -> Self {
        let watch = match (mode, Watch::new()) {
            (Mode::Once, _) => None,
            (Mode::Follow, Ok(watch)) => Some(watch),
            (Mode::Follow, Err(error)) => {
                tracing::warn!(%error, "cannot watch directories: files are looked at every second");
                None
            }
        };
        let open_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open_max = open_max.and_then(|max| usize::try_from(max / 2).ok()).unwrap_or(usize::MAX);
        let descriptors_max = settings.descriptors_max.min(open_max);
        Self {
            settings: FilesSettings { descriptors_max, ..settings },
            patterns,
            intake,
            mode,
            report: FilesReport::default(),
            has_unwatched: watch.is_none(),
            watch,
            watched: HashMap::new(),
            directories: HashMap::new(),
            files: HashMap::new(),
            by_identity: HashMap::new(),
            by_name: HashMap::new(),
            latest: HashMap::new(),
            link_targets: HashMap::new(),
            suspects: HashMap::new(),
            unmatched: Some(Vec::new()),
            ignored: HashMap::new(),
            readmitted: HashMap::new(),
            held: Held::default(),
            warned: HashSet::new(),
            strayed: HashSet::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            outbox: VecDeque::new(),
            buffer: vec![0; BUFFER_BYTES],
            open: 0,
            starved: BTreeSet::new(),
            is_starved: false,
            starved_told: None,
        }
    }

    pub(super) fn report(&self) -> FilesReport {
        self.report
    }

    pub(super) fn run(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let listed = self.list_at_start(shutdown);
        self.tell_unmatched();
        self.resume(listed);
        if self.mode == Mode::Once {
            return self.run_once(shutdown);
        }
        let mut changes = Vec::new();
        let (mut scanned, mut tended) = (Instant::now(), Instant::now());
        while !shutdown.is_requested() {
            let is_idle = self.ready.is_empty() && self.outbox.is_empty();
            let wait = match (is_idle, self.outbox.is_empty()) {
                (true, _) => self.until_deadline().min(self.wait_max()),
                (false, true) => Duration::ZERO,
                (false, false) => FULL_WAIT,
            };
            self.wait(wait, &mut changes);
            if is_idle && !changes.is_empty() {
                thread::sleep(COALESCE);
                self.wait(Duration::ZERO, &mut changes);
            }
            for change in changes.drain(..) {
                self.change(change);
            }
            if tended.elapsed() >= TEND_EVERY {
                self.tend();
                self.tend_held();
                self.feed();
                tended = Instant::now();
            }
            let every = if self.has_unwatched { POLL_EVERY } else { self.settings.scan_every };
            if scanned.elapsed() >= every.min(self.settings.scan_every) {
                self.scan();
                scanned = Instant::now();
            }
            self.expire();
            // A log that is full takes one thing now and then: only right after that there is room for what is asked.
            self.send_all()?;
            self.serve_desk();
            self.round()?;
        }
        self.drain_outbox()
    }

    /// Everything once; what has no line end is handed on too.
    fn run_once(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let mut attempts = 0;
        while !shutdown.is_requested() {
            self.round()?;
            if self.outbox.is_empty() && self.ready.is_empty() {
                if !self.is_starving() || attempts >= STARVED_ATTEMPTS_MAX {
                    break;
                }
                attempts += 1;
                thread::sleep(STARVED_WAIT);
                self.feed();
            }
            if !self.outbox.is_empty() {
                thread::sleep(FULL_WAIT);
            }
        }
        for id in std::mem::take(&mut self.starved) {
            if let Some(path) = self.files.get(&id).map(|tailed| tailed.path().to_owned()) {
                self.warn_path(&path, &"no file descriptor was left for it");
            }
        }
        // Whatever else could not be opened, nobody knows what it was.
        self.report.refused += u64::from(self.is_starved);
        if !shutdown.is_requested() {
            let mut all: Vec<SourceId> = self.files.keys().copied().collect();
            all.sort_unstable();
            for id in all {
                self.finish_line(id);
                self.send_all()?;
            }
        }
        self.drain_outbox()
    }

    /// A question of our own rotation must not wait long either.
    fn wait_max(&self) -> Duration {
        if self.settings.desk.is_some() { DESK_WAIT } else { WAIT_MAX }
    }

    fn wait(&mut self, time: Duration, changes: &mut Vec<Change>) {
        let Some(watch) = &self.watch else {
            thread::sleep(time);
            return;
        };
        if let Err(error) = watch.wait(time, changes) {
            tracing::warn!(%error, "cannot read changes of directories: files are looked at every second");
            self.watch = None;
            self.has_unwatched = true;
        }
    }

    /// One turn for each file that is ready, as long as the log takes what they give.
    fn round(&mut self) -> Result<(), IntakeClosed> {
        for _ in 0..self.ready.len() {
            self.send_all()?;
            if !self.outbox.is_empty() {
                return Ok(());
            }
            let Some(id) = self.ready.pop_front() else { break };
            self.turn(id);
        }
        self.send_all()
    }

    fn send_all(&mut self) -> Result<(), IntakeClosed> {
        while let Some(message) = self.outbox.pop_front() {
            if let Some(message) = self.intake.try_send(message)? {
                self.outbox.push_front(message);
                return Ok(());
            }
        }
        Ok(())
    }

    fn drain_outbox(&mut self) -> Result<(), IntakeClosed> {
        self.outbox.drain(..).try_for_each(|message| self.intake.send_blocking(message))
    }

    fn turn(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get_mut(&id) else { return };
        tailed.is_ready = false;
        if !tailed.is_open() && !self.reopen(id) {
            return;
        }
        let until = match self.order_of(id) {
            Order::Free => None,
            Order::Until(length) => Some(length),
            Order::Wait => return self.wake(id),
        };
        let Some(tailed) = self.files.get_mut(&id) else { return };
        let before = tailed.read();
        let turn = tailed.turn(&mut self.buffer, time::now(), false, until);
        self.report.bytes += tailed.read() - before;
        match turn {
            Ok(Turn::More) => self.wake(id),
            Ok(Turn::Drained) => {}
            Ok(Turn::Rewritten) => self.rewritten_now(id),
            Ok(Turn::Corrupt) => self.corrupt(id),
            Err(ref error) => {
                self.warn_once(id, error);
                self.close(id);
            }
        }
        self.hand_on(id);
        self.end_of_compressed(id, turn.is_ok_and(|turn| turn == Turn::Drained));
    }

    /// Puts what a file has into the outbox.
    fn hand_on(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get_mut(&id) else { return };
        if let Some(chunk) = tailed.take() {
            self.outbox.push_back(Message::Chunk(chunk));
        }
        if !tailed.is_ready {
            tailed.rest();
        }
        if tailed.deadline().is_some() {
            self.waiting.insert(id);
        } else {
            self.waiting.remove(&id);
        }
    }

    pub(super) fn control(&mut self, id: SourceId, control: &Control) {
        if matches!(control, Control::Gap(_)) {
            self.report.gaps += 1;
        }
        if let Some(tailed) = self.files.get_mut(&id) {
            tailed.control(time::now(), control);
            self.hand_on(id);
        }
    }

    pub(super) fn wake(&mut self, id: SourceId) {
        if let Some(tailed) = self.files.get_mut(&id)
            && !tailed.is_ready
        {
            tailed.is_ready = true;
            self.ready.push_back(id);
        }
    }

    /// Hands on what has no line end.
    fn finish_line(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get_mut(&id) else { return };
        if !tailed.is_unfinished() || (!tailed.is_open() && !self.reopen(id)) {
            return;
        }
        let Some(tailed) = self.files.get_mut(&id) else { return };
        match tailed.turn(&mut self.buffer, time::now(), true, None) {
            Ok(Turn::Rewritten) => self.rewritten_now(id),
            Ok(_) => {}
            Err(error) => self.warn_once(id, &error),
        }
        self.hand_on(id);
    }

    /// The next moment at which held lines are handed on.
    fn until_deadline(&self) -> Duration {
        let now = time::now();
        let deadlines = self.waiting.iter().filter_map(|id| self.files.get(id)?.deadline());
        let soonest = deadlines.min().map_or(i64::MAX, |deadline| deadline.saturating_sub(now));
        Duration::from_nanos(u64::try_from(soonest).unwrap_or(0))
    }

    fn expire(&mut self) {
        let now = time::now();
        let is_due = |id: &&SourceId| {
            self.files.get(id).and_then(Tailed::deadline).is_some_and(|at| at <= now)
        };
        let due: Vec<SourceId> = self.waiting.iter().filter(is_due).copied().collect();
        for id in due {
            if let Some(tailed) = self.files.get_mut(&id) {
                tailed.expire(now);
                self.hand_on(id);
            }
        }
    }

    /// A file becomes a source.
    pub(super) fn add(
        &mut self,
        path: &Path,
        facts: &FileFacts,
        base: &Path,
        content: Content,
        cursor: FileCursor,
        head: Vec<u8>,
    ) -> SourceId {
        let id = self.intake.open(self.meta(facts.identity, base)).id;
        self.insert(id, path, facts, base, content, cursor, head);
        self.control(id, &Control::Started);
        id
    }

    #[expect(clippy::too_many_arguments, reason = "all of a file at once, for two callers")]
    pub(super) fn insert(
        &mut self,
        id: SourceId,
        path: &Path,
        facts: &FileFacts,
        base: &Path,
        content: Content,
        cursor: FileCursor,
        head: Vec<u8>,
    ) {
        self.report.files += 1;
        let process = self.settings.process.clone();
        let mut tailed = Tailed::new(id, base.to_owned(), content, cursor, head, process);
        tailed.add_name(path);
        tailed.modified = facts.modified;
        tailed.size = facts.size.max(cursor.offset);
        self.open += usize::from(tailed.is_open());
        self.files.insert(id, tailed);
        self.by_identity.insert(facts.identity, id);
        self.by_name.insert(path.to_owned(), id);
        self.put_in_order(id);
        self.follow_link(id, path);
        self.wake(id);
        self.close_some(id);
    }

    pub(super) fn meta(&self, identity: FileIdentity, base: &Path) -> SourceMeta {
        SourceMeta {
            key: key_of(identity),
            origin: Origin::File {
                path: base.to_string_lossy().into_owned(),
                volume: self.settings.volume.clone(),
                inode: identity.inode,
            },
            host: self.settings.host.clone(),
            fields: self.settings.fields.clone(),
            sinks: self.settings.sinks.clone(),
            parse: self.settings.parse.clone(),
        }
    }

    /// Opens a file again that was closed to make room. When it is gone, so is what was not read of it.
    pub(super) fn reopen(&mut self, id: SourceId) -> bool {
        let Some(tailed) = self.files.get(&id) else { return false };
        let found = match self.find(tailed) {
            Ok(found) => found,
            Err(_) => {
                self.starve(id);
                return false;
            }
        };
        if let Some((file, name)) = found {
            let Some(tailed) = self.files.get_mut(&id) else { return false };
            tailed.content = Content::Plain(file);
            tailed.add_name(&name);
            self.by_name.insert(name, id);
            self.open += 1;
            self.close_some(id);
            return true;
        }
        let (former, base, path) = (tailed.former(), tailed.base.clone(), tailed.path().to_owned());
        let (unread, identity) = (tailed.unread(), tailed.identity);
        match self.continue_copies(&former, identity, &path, &base) {
            Ok(Some(_)) => {}
            Ok(None) if unread == 0 => {}
            Ok(None) => {
                let gap = self.gap_behind(id, GapReason::Removed, Some(unread));
                self.control(id, &Control::Gap(gap));
            }
            Err(_) => {
                self.starve(id);
                return false;
            }
        }
        self.stop(id);
        false
    }

    /// A file under one of its names, or one beside them; fails only when nothing can be opened now.
    fn find(&self, tailed: &Tailed) -> io::Result<Option<(File, PathBuf)>> {
        for name in tailed.names.iter().rev() {
            let opened = self.patterns.open(name, tailed.identity);
            if let Some(file) = unless_exhausted(opened)? {
                return Ok(Some((file, name.clone())));
            }
        }
        // Half of a rename may be on its way: a look tells more than the names do.
        let Some(directory) = tailed.base.parent() else { return Ok(None) };
        let names = unless_exhausted(self.patterns.names_in(directory))?;
        for name in names.unwrap_or_default() {
            let path = directory.join(name);
            let opened = self.patterns.open(&path, tailed.identity);
            if let Some(file) = unless_exhausted(opened)? {
                return Ok(Some((file, path)));
            }
        }
        Ok(None)
    }

    /// A file has to wait: there is no file descriptor for it. Some that others have are given back.
    pub(super) fn starve(&mut self, id: SourceId) {
        self.starved.insert(id);
        self.tell_starved();
        self.close_many(id, self.open / 8 + 1);
    }

    /// Something that nobody reads yet has to wait.
    pub(super) fn starve_new(&mut self) {
        self.is_starved = true;
        self.tell_starved();
    }

    fn tell_starved(&mut self) {
        if self.starved_told.is_none_or(|told| told.elapsed() >= STARVED_TOLD_EVERY) {
            self.starved_told = Some(Instant::now());
            tracing::warn!("no file descriptors are left: some files are read later");
        }
    }

    fn is_starving(&self) -> bool {
        self.is_starved || !self.starved.is_empty()
    }

    /// Tries again what had no file descriptor.
    fn feed(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            self.wake(id);
        }
        if std::mem::take(&mut self.is_starved) {
            self.scan();
        }
    }

    /// Everything there is, before anything is known: what is missing here would be taken for gone.
    fn list_at_start(&mut self, shutdown: &Shutdown) -> Vec<Candidate> {
        for _ in 0..STARVED_ATTEMPTS_MAX {
            let listed = self.list();
            if !std::mem::take(&mut self.is_starved) || shutdown.is_requested() {
                return listed;
            }
            thread::sleep(STARVED_WAIT);
        }
        self.list()
    }

    /// A pattern that matches nothing is misspelt, or early.
    fn tell_unmatched(&mut self) {
        for pattern in self.unmatched.take().unwrap_or_default() {
            self.report.unmatched += 1;
            match self.mode {
                Mode::Once => tracing::warn!(pattern, "no file matches this pattern"),
                Mode::Follow => tracing::warn!(
                    pattern,
                    "no file matches this pattern yet; those that come are read"
                ),
            }
        }
    }

    fn close(&mut self, id: SourceId) {
        if let Some(tailed) = self.files.get_mut(&id)
            && tailed.is_open()
        {
            tailed.content = Content::Closed;
            self.open -= 1;
        }
    }

    /// Closes what was written to least recently, when too much is open. What has no name cannot be opened again,
    /// and stays.
    fn close_some(&mut self, but: SourceId) {
        if self.open > self.settings.descriptors_max {
            let more = self.open - self.settings.descriptors_max;
            self.close_many(but, more + self.settings.descriptors_max / 8);
        }
    }

    fn close_many(&mut self, but: SourceId, many: usize) {
        let can_wait = |tailed: &&Tailed| {
            tailed.source != but && tailed.file().is_some() && !tailed.names.is_empty()
        };
        let mut order: Vec<(bool, Instant, SourceId)> = self
            .files
            .values()
            .filter(can_wait)
            .map(|tailed| (tailed.is_ready, tailed.grown, tailed.source))
            .collect();
        order.sort_unstable();
        for (_, _, id) in order.into_iter().take(many) {
            self.close(id);
        }
    }

    /// A hole behind what was read of a file, with its place.
    pub(super) fn gap_behind(&self, id: SourceId, reason: GapReason, bytes: Option<u64>) -> Gap {
        let from_byte = bytes.and_then(|_| self.files.get(&id)).map(Tailed::read_in_all);
        Gap { from_byte, ..gap(reason, bytes) }
    }

    /// Looks after files that no directory tells of, and ends what is over.
    fn tend(&mut self) {
        let mut all: Vec<SourceId> = Vec::new();
        for tailed in self.files.values() {
            let is_base = tailed.names.contains(&tailed.base);
            if !is_base || tailed.is_unfinished() {
                all.push(tailed.source);
            }
        }
        all.sort_unstable();
        for id in all {
            self.tend_one(id);
        }
        self.resolve_suspects();
    }

    fn tend_one(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get_mut(&id) else { return };
        let mut is_gone = tailed.names.is_empty();
        if is_gone && let Some(file) = tailed.file() {
            match FileFacts::of(file) {
                Ok(facts) if facts.size != tailed.size || facts.modified != tailed.modified => {
                    tailed.is_closed &= facts.size == tailed.size;
                    tailed.modified = facts.modified;
                    self.wake(id);
                    return;
                }
                Ok(_) => {}
                Err(_) => is_gone = true,
            }
        }
        let Some(tailed) = self.files.get(&id) else { return };
        if tailed.is_ready {
            return;
        }
        let (quiet, over_after) = (tailed.grown.elapsed(), self.settings.over_after);
        let is_renamed = !tailed.names.contains(&tailed.base);
        if is_gone {
            let hold = if tailed.is_held {
                HELD_TIME
            } else if tailed.is_closed || !tailed.is_open() {
                over_after
            } else {
                over_after * UNCLOSED_FACTOR
            };
            if quiet >= hold {
                self.finish_line(id);
                self.stop(id);
            }
        } else if is_renamed && quiet >= over_after {
            self.finish_line(id);
            if let Some(tailed) = self.files.get_mut(&id)
                && !tailed.is_rotated
            {
                tailed.is_rotated = true;
                let path = tailed.base.to_string_lossy().into_owned();
                self.control(id, &Control::Rotated { path, removed: None });
            }
        } else if quiet >= UNFINISHED_MAX {
            self.finish_line(id);
        }
    }

    /// The file is over.
    pub(super) fn stop(&mut self, id: SourceId) {
        self.resolve_suspects_of(id);
        self.control(id, &Control::Stopped);
        self.close(id);
        let Some(tailed) = self.files.remove(&id) else { return };
        for name in &tailed.names {
            if self.by_name.get(name) == Some(&id) {
                self.by_name.remove(name);
            }
        }
        if self.latest.get(&tailed.base) == Some(&id) {
            self.latest.remove(&tailed.base);
        }
        self.by_identity.remove(&tailed.identity);
        self.waiting.remove(&id);
        self.outbox.push_back(Message::End(id));
    }

    fn corrupt(&mut self, id: SourceId) {
        self.control(id, &Control::Gap(gap(GapReason::Corrupt, None)));
        self.keep_known(id);
    }

    /// A compressed file does not grow.
    fn end_of_compressed(&mut self, id: SourceId, is_drained: bool) {
        let Some(tailed) = self.files.get(&id) else { return };
        if is_drained && matches!(tailed.content, Content::Compressed(_)) {
            self.finish_line(id);
            self.keep_known(id);
        }
    }

    /// The source ends, but the file stays known as long as it is there.
    fn keep_known(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get(&id) else { return };
        let bytes = match &tailed.content {
            Content::Compressed(_) => 0,
            Content::Plain(_) | Content::Closed => tailed.read(),
        };
        self.ignored.insert(tailed.identity, bytes);
        self.stop(id);
    }

    fn warn_once(&mut self, id: SourceId, error: &io::Error) {
        if let Some(path) = self.files.get(&id).map(|tailed| tailed.path().to_owned()) {
            self.warn_error(&path, error);
        }
    }

    pub(super) fn warn_error(&mut self, path: &Path, error: &io::Error) {
        if is_exhausted(error) {
            // It says nothing about the path.
            return self.starve_new();
        }
        if !reach::is_outside(error) {
            return self.warn_path(path, error);
        }
        // Told once, whatever the name means in between: whoever may write there could go on for ever.
        if self.strayed.len() < WARNED_MAX && self.strayed.insert(path.to_owned()) {
            self.settings.stats.outside();
            self.refused(path, error);
        }
    }

    pub(super) fn warn_path(&mut self, path: &Path, reason: &dyn Display) {
        if self.warned.len() < WARNED_MAX && self.warned.insert(path.to_owned()) {
            self.refused(path, reason);
        }
    }

    fn refused(&mut self, path: &Path, reason: &dyn Display) {
        self.report.refused += 1;
        self.settings.stats.refused();
        tracing::warn!(path = %path.display(), %reason, "cannot read");
    }
}

/// What cannot be had is none, unless it may be had a moment later.
pub(super) fn unless_exhausted<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_exhausted(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A hole of which nobody knows more.
pub(super) fn gap(reason: GapReason, bytes: Option<u64>) -> Gap {
    Gap { reason, from: None, to: None, from_byte: None, bytes, lines: None, exact: false }
}

/// `file:<device>-<inode>-<birth time>`.
pub(crate) fn key_of(identity: FileIdentity) -> SourceKey {
    let FileIdentity { device, inode, born } = identity;
    SourceKey(format!("file:{device}-{inode}-{}", born.unwrap_or(0)))
}
