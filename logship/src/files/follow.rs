//! The loop: what changes, whose turn it is, what is handed on.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;

use crate::cursor::{Cursor, FileCursor, FileIdentity};
use crate::files::compressed::Decompressed;
use crate::files::patterns::{self, Patterns};
use crate::files::siblings::{self, Candidate, Former, Found, Readable};
use crate::files::tailed::{BUFFER_BYTES, Content, Tailed, Turn};
use crate::files::{FilesReport, FilesSettings};
use crate::intake::{Intake, IntakeClosed, Message};
use crate::proof::{FileFacts, head_len, holds, piece, proof, proof_of};
use crate::record::{Control, Gap, GapReason};
use crate::rule::Mode;
use crate::source::{Origin, SourceId, SourceKey, SourceMeta};
use crate::time;
use crate::watch::{Change, Watch, WatchId, What};

/// How long writes are let to gather before they are read.
const COALESCE: Duration = Duration::from_millis(10);

/// Longest sleep: how late a shutdown is seen.
const WAIT_MAX: Duration = Duration::from_millis(200);

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
    /// Where symbolic links lead to.
    link_targets: HashMap<PathBuf, SourceId>,
    suspects: HashMap<FileIdentity, Suspect>,
    /// Rotated files that were there before anything was read.
    pub(super) ignored: HashSet<FileIdentity>,
    warned: HashSet<PathBuf>,
    ready: VecDeque<SourceId>,
    /// Files that hold something back which time hands on.
    waiting: BTreeSet<SourceId>,
    /// Made, and not yet taken by the log. Nothing is read before it is empty.
    outbox: VecDeque<Message>,
    buffer: Vec<u8>,
    open: usize,
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
        Self {
            settings,
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
            link_targets: HashMap::new(),
            suspects: HashMap::new(),
            ignored: HashSet::new(),
            warned: HashSet::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            outbox: VecDeque::new(),
            buffer: vec![0; BUFFER_BYTES],
            open: 0,
        }
    }

    pub(super) fn report(&self) -> FilesReport {
        self.report
    }

    pub(super) fn run(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        let listed = self.list();
        self.resume(listed);
        if self.mode == Mode::Once {
            return self.run_once(shutdown);
        }
        let mut changes = Vec::new();
        let (mut scanned, mut tended) = (Instant::now(), Instant::now());
        while !shutdown.is_requested() {
            let is_idle = self.ready.is_empty() && self.outbox.is_empty();
            let wait = match (is_idle, self.outbox.is_empty()) {
                (true, _) => self.until_deadline().min(WAIT_MAX),
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
                tended = Instant::now();
            }
            let every = if self.has_unwatched { POLL_EVERY } else { self.settings.scan_every };
            if scanned.elapsed() >= every.min(self.settings.scan_every) {
                self.scan();
                scanned = Instant::now();
            }
            self.expire();
            self.round()?;
        }
        self.drain_outbox()
    }

    /// Everything once; what has no line end is handed on too.
    fn run_once(&mut self, shutdown: &Shutdown) -> Result<(), IntakeClosed> {
        while !shutdown.is_requested() {
            self.round()?;
            if self.outbox.is_empty() && self.ready.is_empty() {
                break;
            }
            if !self.outbox.is_empty() {
                thread::sleep(FULL_WAIT);
            }
        }
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

    // What happens to files.

    fn turn(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get_mut(&id) else { return };
        tailed.is_ready = false;
        if !tailed.is_open() && !self.reopen(id) {
            return;
        }
        let Some(tailed) = self.files.get_mut(&id) else { return };
        let before = tailed.read();
        let turn = tailed.turn(&mut self.buffer, time::now(), false);
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
        match tailed.turn(&mut self.buffer, time::now(), true) {
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

    fn rewritten_now(&mut self, id: SourceId) {
        let unread = self.files.get(&id).map(|tailed| tailed.size.saturating_sub(tailed.read()));
        self.rewritten(id, unread);
    }

    /// The file is shorter than what was read, or another one in the same inode: its former content is looked
    /// for, what of it was not read is read there, and the file begins again. `unread` is what it had beyond,
    /// where that is known.
    pub(super) fn rewritten(&mut self, id: SourceId, unread: Option<u64>) {
        self.report.rewritten += 1;
        let Some(tailed) = self.files.get(&id) else { return };
        let (former, base, read) = (tailed.former(), tailed.base.clone(), tailed.read());
        let path = tailed.path().to_owned();
        let is_found = self.continue_copies(&former, &path, &base).is_some();
        let size = FileFacts::at(&path).map_or(0, |facts| facts.size);
        self.suspects.retain(|_, suspect| suspect.original != id);
        let Some(tailed) = self.files.get_mut(&id) else { return };
        if !is_found {
            // Nothing will bring the rest of what is held. Where there is a copy, it is read from the cursor on,
            // which stands before everything that is held.
            tailed.flush();
            self.hand_on(id);
        }
        let Some(tailed) = self.files.get_mut(&id) else { return };
        tailed.begin_again();
        let path = path.to_string_lossy().into_owned();
        self.control(id, &Control::Truncated { path, read, size });
        if !is_found && unread != Some(0) {
            self.control(id, &Control::Gap(gap(GapReason::Truncated, unread)));
        }
        self.wake(id);
    }

    /// Finds the copies of what was read, and goes on in the one that has most of it.
    pub(super) fn continue_copies(
        &mut self,
        former: &Former,
        path: &Path,
        base: &Path,
    ) -> Option<FileFacts> {
        let mut candidates = self.candidates(path);
        if path.parent() != base.parent() {
            candidates.extend(self.candidates(base));
        }
        let mut found = siblings::search(former, candidates);
        let order = |copy: &Found| {
            let is_plain = matches!(copy.content, Readable::Plain(_));
            (copy.from, is_plain, copy.candidate.facts.size)
        };
        found.sort_by_key(|copy| std::cmp::Reverse(order(copy)));
        let first = found.first().map(|copy| copy.candidate.facts);
        for copy in found {
            let continues = Some(copy.candidate.facts) == first;
            self.adopt_copy(copy, base, continues);
        }
        first
    }

    /// Files beside `path` that nobody reads and that may hold what it held.
    fn candidates(&self, path: &Path) -> Vec<Candidate> {
        let Some(directory) = path.parent() else { return Vec::new() };
        let mut candidates = Vec::new();
        for name in patterns::names_in(directory).unwrap_or_default() {
            let candidate = directory.join(&name);
            if !is_of_one_family(path, &candidate) {
                continue;
            }
            if let Ok(facts) = FileFacts::at(&candidate)
                && facts.is_regular
                && !self.by_identity.contains_key(&facts.identity)
            {
                candidates.push(Candidate { path: candidate, facts });
            }
        }
        candidates
    }

    /// A copy becomes a source, so that it is known from now on; one that `continues` is read from where the
    /// original was left.
    fn adopt_copy(&mut self, copy: Found, base: &Path, continues: bool) {
        self.report.copies += 1;
        let Candidate { path, facts } = copy.candidate;
        self.suspects.remove(&facts.identity);
        let (mut offset, mut proof) = (copy.from, copy.proof);
        let content = match copy.content {
            Readable::Compressed(_) if !continues => {
                self.ignored.insert(facts.identity);
                return;
            }
            Readable::Compressed(stream) => Content::Compressed(stream),
            Readable::Plain(file) => {
                if !continues && let Ok(Some(whole)) = proof_of(&file, facts.size) {
                    (offset, proof) = (facts.size, whole);
                }
                Content::Plain(file)
            }
        };
        let cursor = FileCursor { file: facts.identity, offset, proof };
        self.add(&path, &facts, base, content, cursor, copy.head);
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
        self.follow_link(id, path);
        self.wake(id);
        self.close_some(id);
    }

    /// The kernel tells of a file behind a symbolic link in the directory where it really is.
    fn follow_link(&mut self, id: SourceId, path: &Path) {
        if !path.is_symlink() {
            return;
        }
        let Ok(target) = path.canonicalize() else { return };
        if let Some(directory) = target.parent() {
            self.watch_directory(directory);
        }
        self.link_targets.insert(target, id);
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
            parse: self.settings.parse,
        }
    }

    // Descriptors.

    /// Opens a file again that was closed to make room. When it is gone, so is what was not read of it.
    fn reopen(&mut self, id: SourceId) -> bool {
        let Some(tailed) = self.files.get(&id) else { return false };
        let identity = tailed.identity;
        // Half of a rename may be on its way: a look tells more than the names do.
        let beside =
            tailed.base.parent().map(|directory| (directory, patterns::names_in(directory)));
        let beside = beside.into_iter().flat_map(|(directory, names)| {
            names.unwrap_or_default().into_iter().map(|name| directory.join(name))
        });
        let names = tailed.names.iter().rev().cloned().chain(beside);
        let mut opened =
            names.filter_map(|name| Some((siblings::open(&name, identity).ok()?, name)));
        if let Some((file, name)) = opened.next() {
            drop(opened);
            let Some(tailed) = self.files.get_mut(&id) else { return false };
            tailed.content = Content::Plain(file);
            tailed.add_name(&name);
            self.by_name.insert(name, id);
            self.open += 1;
            self.close_some(id);
            return true;
        }
        drop(opened);
        let (former, base, path) = (tailed.former(), tailed.base.clone(), tailed.path().to_owned());
        let unread = tailed.size.saturating_sub(tailed.read());
        if self.continue_copies(&former, &path, &base).is_none() && unread > 0 {
            self.control(id, &Control::Gap(gap(GapReason::Removed, Some(unread))));
        }
        self.stop(id);
        false
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
        if self.open <= self.settings.descriptors_max {
            return;
        }
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
        let many = self.open - self.settings.descriptors_max + self.settings.descriptors_max / 8;
        for (_, _, id) in order.into_iter().take(many) {
            self.close(id);
        }
    }

    // What the directories say.

    /// Reads the directories, watches them, and says what is in them.
    pub(super) fn list(&mut self) -> Vec<Candidate> {
        let listing = self.patterns.list();
        if listing.is_cut {
            self.warn_path(Path::new("/"), &"too many directories: not all of them are looked at");
        }
        for (directory, reason) in &listing.refused {
            self.warn_path(directory, reason);
        }
        for directory in listing.directories.keys() {
            self.watch_directory(directory);
        }
        let mut found = Vec::new();
        for (directory, names) in listing.directories {
            for name in names {
                let path = directory.join(name);
                match FileFacts::at(&path) {
                    Ok(facts) => found.push(Candidate { path, facts }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if self.patterns.is_meant(&path) => self.warn_path(&path, &error),
                    Err(_) => {}
                }
            }
        }
        found
    }

    fn watch_directory(&mut self, directory: &Path) {
        if self.watched.contains_key(directory) {
            return;
        }
        let Some(watch) = &self.watch else { return };
        match watch.add(directory) {
            Ok(id) => {
                self.watched.insert(directory.to_owned(), id);
                self.directories.insert(id, directory.to_owned());
            }
            Err(error) => {
                self.has_unwatched = true;
                self.warn_path(directory, &error);
            }
        }
    }

    /// Looks at everything.
    fn scan(&mut self) {
        let listed = self.list();
        let mut names: HashMap<SourceId, Vec<&Path>> = HashMap::new();
        for candidate in &listed {
            if let Some(id) = self.by_identity.get(&candidate.facts.identity) {
                names.entry(*id).or_default().push(&candidate.path);
            }
        }
        // Names that are gone without a word from the kernel.
        for (id, tailed) in &mut self.files {
            let found = names.get(id).map(Vec::as_slice).unwrap_or_default();
            tailed.names.retain(|name| found.contains(&name.as_path()));
        }
        let files = &self.files;
        let is_name =
            |name: &PathBuf, id: &SourceId| files.get(id).is_some_and(|f| f.names.contains(name));
        self.by_name.retain(|name, id| is_name(name, id));
        self.link_targets.retain(|_, id| files.contains_key(id));
        let there: HashSet<FileIdentity> =
            listed.iter().map(|candidate| candidate.facts.identity).collect();
        self.ignored.retain(|identity| there.contains(identity));
        self.suspects.retain(|identity, _| there.contains(identity));
        for candidate in listed {
            self.seen(&candidate.path, &candidate.facts);
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Overflow => self.scan(),
            Change::DirectoryGone(id) => {
                if let Some(path) = self.directories.remove(&id) {
                    self.watched.remove(&path);
                    if let Some(watch) = &self.watch {
                        watch.remove(id);
                    }
                    self.scan();
                }
            }
            Change::Name { directory, name, what } => {
                let Some(directory) = self.directories.get(&directory) else { return };
                let path = directory.join(name);
                self.name_changed(&path, what);
            }
        }
    }

    fn name_changed(&mut self, path: &Path, what: What) {
        match what {
            What::Vanished => self.forget_name(path),
            What::Appeared => self.look(path),
            What::Written | What::Closed => {
                match self.by_name.get(path).or_else(|| self.link_targets.get(path)).copied() {
                    Some(id) => {
                        self.wake(id);
                        if let Some(tailed) = self.files.get_mut(&id) {
                            tailed.is_closed = what == What::Closed;
                        }
                    }
                    None => self.look(path),
                }
            }
        }
    }

    fn forget_name(&mut self, path: &Path) {
        if let Some(id) = self.by_name.remove(path)
            && let Some(tailed) = self.files.get_mut(&id)
        {
            tailed.names.retain(|name| name != path);
            self.wake(id);
        }
    }

    /// Finds out what a name means now.
    fn look(&mut self, path: &Path) {
        match FileFacts::at(path) {
            Ok(facts) if facts.is_directory => {
                if !self.watched.contains_key(path) {
                    // Perhaps one of a pattern.
                    self.scan();
                }
            }
            Ok(facts) => self.seen(path, &facts),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if self.patterns.is_meant(path) => self.warn_path(path, &error),
            Err(_) => {}
        }
    }

    /// A name and the file it means.
    pub(super) fn seen(&mut self, path: &Path, facts: &FileFacts) {
        if !facts.is_regular {
            if !facts.is_directory && self.patterns.is_meant(path) {
                self.warn_path(path, &"it is no regular file");
            }
            return;
        }
        if let Some(known) = self.by_name.get(path)
            && self.by_identity.get(&facts.identity) != Some(known)
        {
            self.forget_name(path);
        }
        if let Some(id) = self.by_identity.get(&facts.identity).copied() {
            let Some(tailed) = self.files.get_mut(&id) else { return };
            if tailed.names.last().is_none_or(|name| name != path) {
                tailed.add_name(path);
                self.by_name.insert(path.to_owned(), id);
            }
            if facts.size != tailed.size || facts.modified != tailed.modified {
                tailed.modified = facts.modified;
                self.wake(id);
            }
            return;
        }
        self.meet(path, facts, false);
    }

    /// A file that nobody reads yet.
    pub(super) fn meet(&mut self, path: &Path, facts: &FileFacts, is_first: bool) {
        let is_meant = self.patterns.is_meant(path);
        let base = self.patterns.base_of(path);
        if patterns::is_compressed(path)
            || self.ignored.contains(&facts.identity)
            || (!is_meant && base.is_none())
        {
            return;
        }
        if let Some(original) = base.as_ref().and_then(|base| self.by_name.get(base)).copied()
            && self.may_be_copy(path, facts, original)
        {
            return;
        }
        let base = if is_meant { path } else { base.as_deref().unwrap_or(path) };
        let offset = if is_first { self.first_offset(path, facts) } else { 0 };
        self.begin(path, facts, base, offset);
    }

    /// Whether a file holds the beginning of another one that is still where it was written. It is left alone
    /// until it holds anything else, or the other one is cut.
    fn may_be_copy(&mut self, path: &Path, facts: &FileFacts, original: SourceId) -> bool {
        let identity = facts.identity;
        let Some(tailed) = self.files.get(&original) else { return false };
        if tailed.identity == identity || (!tailed.is_open() && !self.reopen(original)) {
            return false;
        }
        let Some(tailed) = self.files.get(&original) else { return false };
        let Some(file) = tailed.file() else { return false };
        let is_intact = tailed.is_intact();
        if !is_intact {
            // The original was cut: that decides about every copy of it.
            self.rewritten_now(original);
            return self.by_identity.contains_key(&identity);
        }
        let alike = siblings::open(path, identity).and_then(|copy| {
            if facts.size == 0 {
                // A copy that has just been begun, or nothing to lose.
                return Ok(Some(true));
            }
            siblings::is_prefix(&copy, file)
        });
        match alike {
            Ok(Some(true)) => {
                self.suspects.insert(identity, Suspect { path: path.to_owned(), original });
                true
            }
            Ok(_) => {
                self.suspects.remove(&identity);
                false
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "cannot compare");
                false
            }
        }
    }

    /// A file is read for the first time, from `offset` on; or again, from where it was left.
    pub(super) fn begin(&mut self, path: &Path, facts: &FileFacts, base: &Path, offset: u64) {
        if self.files.len() >= self.settings.files_max {
            self.warn_path(path, &"too many files are read already");
            return;
        }
        let opened = siblings::open(path, facts.identity).and_then(|file| {
            let cursor = match self.intake.open(self.meta(facts.identity, base)).cursor {
                Some(Cursor::File(known))
                    if known.file == facts.identity
                        && holds(&file, known.offset, &known.proof)? =>
                {
                    known
                }
                _ => {
                    let proof = proof_of(&file, offset)?.unwrap_or_default();
                    FileCursor { file: facts.identity, offset, proof }
                }
            };
            let head = piece(&file, 0, head_len(cursor.offset))?.unwrap_or_default();
            Ok((file, cursor, head))
        });
        match opened {
            Ok((file, cursor, head)) => {
                self.warned.remove(path);
                self.add(path, facts, base, Content::Plain(file), cursor, head);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.warn_path(path, &error),
        }
    }

    /// A compressed file is read from its beginning.
    pub(super) fn begin_compressed(&mut self, path: &Path, facts: &FileFacts, base: &Path) {
        let Some(compression) = patterns::compression_of(path) else { return };
        let stream = siblings::open(path, facts.identity)
            .and_then(|file| Decompressed::new(file, compression));
        match stream {
            Ok(stream) => {
                let cursor = FileCursor { file: facts.identity, offset: 0, proof: proof(&[], &[]) };
                let content = Content::Compressed(Box::new(stream));
                self.add(path, facts, base, content, cursor, Vec::new());
            }
            Err(error) => self.warn_path(path, &error),
        }
    }

    // What time does.

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
            let hold = if tailed.is_closed || !tailed.is_open() {
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
                self.control(id, &Control::Rotated { path });
            }
        } else if quiet >= UNFINISHED_MAX {
            self.finish_line(id);
        }
    }

    /// Suspects whose original is under another name now: whatever more they hold is in no other file.
    fn resolve_suspects(&mut self) {
        let is_away = |suspect: &Suspect| {
            self.files.get(&suspect.original).is_none_or(|original| {
                !original.names.contains(&original.base) && original.size <= original.read()
            })
        };
        let away = self.suspects.values().filter(|suspect| is_away(suspect));
        let originals: BTreeSet<SourceId> = away.map(|suspect| suspect.original).collect();
        for original in originals {
            self.resolve_suspects_of(original);
        }
    }

    fn resolve_suspects_of(&mut self, original: SourceId) {
        let Some(former) = self.files.get(&original).map(Tailed::former) else { return };
        let of_it = self.suspects.extract_if(|_, suspect| suspect.original == original);
        let of_it: Vec<(FileIdentity, Suspect)> = of_it.collect();
        for (identity, suspect) in of_it {
            let Ok(facts) = FileFacts::at(&suspect.path) else { continue };
            if facts.identity != identity {
                continue;
            }
            let candidate = Candidate { path: suspect.path.clone(), facts };
            let base = self.patterns.base_of(&suspect.path).unwrap_or(suspect.path.clone());
            match siblings::search(&former, vec![candidate]).pop() {
                Some(copy) => self.adopt_copy(copy, &base, true),
                None => self.begin(&suspect.path, &facts, &base, 0),
            }
        }
    }

    /// The file is over.
    pub(super) fn stop(&mut self, id: SourceId) {
        self.resolve_suspects_of(id);
        self.control(id, &Control::Stopped);
        self.close(id);
        let Some(tailed) = self.files.remove(&id) else { return };
        for name in &tailed.names {
            self.by_name.remove(name);
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
        self.ignored.insert(tailed.identity);
        self.stop(id);
    }

    fn warn_once(&mut self, id: SourceId, error: &io::Error) {
        if let Some(path) = self.files.get(&id).map(|tailed| tailed.path().to_owned()) {
            self.warn_path(&path, error);
        }
    }

    pub(super) fn warn_path(&mut self, path: &Path, reason: &dyn std::fmt::Display) {
        if self.warned.len() < WARNED_MAX && self.warned.insert(path.to_owned()) {
            self.report.refused += 1;
            tracing::warn!(path = %path.display(), %reason, "cannot read");
        }
    }
}

/// A hole of which nobody knows more.
pub(super) fn gap(reason: GapReason, bytes: Option<u64>) -> Gap {
    Gap { reason, from: None, to: None, bytes, lines: None, exact: false }
}

/// `file:<device>-<inode>-<birth time>`.
pub(super) fn key_of(identity: FileIdentity) -> SourceKey {
    let FileIdentity { device, inode, born } = identity;
    SourceKey(format!("file:{device}-{inode}-{}", born.unwrap_or(0)))
}

/// Whether two names are of files that rotations make of one: the same name, or one is rotated of the other, or
/// both of a third.
fn is_of_one_family(a: &Path, b: &Path) -> bool {
    let family = |path: &Path| -> Vec<std::ffi::OsString> {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let mut names = patterns::bases(name);
        names.push(name.to_owned());
        names
    };
    let of_a = family(a);
    family(b).iter().any(|name| of_a.contains(name))
}
