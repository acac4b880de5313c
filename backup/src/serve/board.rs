//! All that a resident run knows, and what it decides by that: no clock, no process, no file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chores_common::exit::ExitCode;
use jiff::{SignedDuration, Timestamp};

use super::discover::{Discovered, join};
use super::due::{self, Since, Timing, past};
use super::job::{self, Job, Names};
use super::learn::{Drilled, Learned};
use super::outcome::{Judged, Purpose, Verdict};
use super::report::{JobReport, LaneReport, Report, RepositoryReport};
use super::settings::ServeSettings;
use super::state::{Good, JobState, Lane, Last, State};
use super::tell::Told;
use crate::notify::plain;
use crate::schedule::{Cron, Schedule};
use crate::text;

#[cfg(test)]
mod tests;

/// How long the engine is waited for before jobs that need none are begun without its host name, and before a run that ends by
/// itself gives it up.
pub const ENGINE_TIME: SignedDuration = SignedDuration::from_secs(60);

/// How long the engine may be away before that is an ailment.
const ENGINE_AWAY_MAX: SignedDuration = SignedDuration::from_mins(5);

/// How long nothing may be heard of the engine, good or bad: it is looked at every five minutes.
const ENGINE_SILENT_MAX: SignedDuration = SignedDuration::from_mins(20);

/// How long after one that failed containers are tried again to be let go on.
const RESUME_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// How often it is looked what the repository has.
const LEARN_AFTER: SignedDuration = SignedDuration::from_hours(6);

const LEARN_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How long the runs that have no limit of their own may take.
const LEARN_TIME_MAX: Duration = Duration::from_secs(30 * 60);
const RESUME_TIME_MAX: Duration = Duration::from_secs(30 * 60);
const RETAIN_TIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);
const REPOSITORY_TIME_MAX: Duration = Duration::from_secs(48 * 60 * 60);

/// How long a job is remembered whose container is gone.
const GONE_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many of these are remembered: the one that is gone for the longest time goes for a new one.
const GONE_MAX: usize = 1000;

/// How long after a start what was missed is made up for before people are told that it is overdue.
const CATCH_UP_TIME: SignedDuration = SignedDuration::from_mins(30);

/// How long the loop may not have come round before this machine is taken to have slept, or its clock to have been set.
const SLEPT_MIN: SignedDuration = SignedDuration::from_mins(5);

/// How many answers about what the repository has are dropped, one behind the other, since the question has changed meanwhile.
const STALE_MAX: u32 = 3;

/// How many runs are named that take all places.
const NAMED_MAX: usize = 3;

/// Longest sentence of a report, in characters.
const SENTENCE_CHARS_MAX: usize = 4000;

/// A run that ends by itself waits so long for what is about to be due.
const ONCE_PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// Something that may run beside others; never twice at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Track {
    /// What for.
    pub purpose: Purpose,
    /// Of which job; `None` for what concerns all of them.
    pub job: Option<String>,
}

/// One that runs.
#[derive(Clone, Debug)]
struct Running {
    since: Timestamp,
    /// The backup that is tried.
    tried: Option<Good>,
}

/// Whether the engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EngineSight {
    /// It was not heard of yet.
    Unknown,
    /// It does.
    Answers,
    /// It does not.
    Away { since: Timestamp, problem: String },
}

/// All of it.
#[derive(Debug)]
pub struct Board {
    settings: ServeSettings,
    /// Why the configuration as it is now cannot be used.
    config_problem: Option<String>,
    /// The host name that was named.
    host: Option<String>,
    /// What this machine calls itself.
    own_name: String,
    /// The boot of the engine's machine, where that is known.
    boot: Option<String>,
    began: Timestamp,
    /// Since when time has passed evenly: this machine was not asleep, and its clock was not set.
    woke: Timestamp,
    /// When the loop came round last.
    ticked: Timestamp,
    /// This program runs in a container, whose own name is another one after each update.
    is_inside: bool,
    /// All jobs by name.
    jobs: BTreeMap<String, Job>,
    /// Those of containers, under the names they would have alone.
    known: Vec<Job>,
    /// Ids of the containers of jobs that run.
    present: BTreeSet<String>,
    resting: BTreeSet<String>,
    refused: BTreeMap<String, String>,
    problems: Vec<String>,
    notes: Vec<String>,
    /// Jobs whose containers are gone that were too many to be remembered.
    dropped: usize,
    engine: EngineSight,
    state: State,
    running: BTreeMap<Track, Running>,
    /// Those that were killed and do not end, and since when.
    stuck: BTreeMap<Track, Timestamp>,
    retain_due: BTreeSet<String>,
    resume_due: bool,
    /// Why that failed, and when it is tried again.
    resume_failed: Option<(String, Timestamp)>,
    /// When anything was heard of the engine.
    heard: Timestamp,
    /// When it was looked what the repository has.
    learned: Option<Timestamp>,
    /// What is asked of it now is no longer what should be.
    is_stale: bool,
    /// How many answers were dropped for that.
    stale_count: u32,
    /// The newest good backup of each name, also of jobs that are not known yet.
    repository: BTreeMap<String, Good>,
    /// The newest that was tried of each name.
    drilled: BTreeMap<String, Drilled>,
    /// What the good ones added, in bytes.
    added: BTreeMap<String, u64>,
    /// How large it was.
    size: Option<RepositoryReport>,
    /// Another machine has this one's name.
    twin: bool,
    /// Nothing here decrypts what is saved.
    closed: bool,
    /// Why the repository could not be asked.
    learn_problem: Option<String>,
    /// Jobs that were run since the start.
    ran: BTreeSet<String>,
    /// None of them is run twice.
    is_once: bool,
}

impl Track {
    fn all(purpose: Purpose) -> Self {
        Self { purpose, job: None }
    }

    fn of(purpose: Purpose, job: &str) -> Self {
        Self { purpose, job: Some(job.to_owned()) }
    }

    /// Whether it counts among those that may run at once.
    fn is_work(&self) -> bool {
        matches!(self.purpose, Purpose::Save | Purpose::Retain | Purpose::Drill)
    }

    /// Whether it is about the whole repository and may take days: one of these runs beside the others, and holds none of them up.
    fn is_upkeep(&self) -> bool {
        matches!(self.purpose, Purpose::Check | Purpose::Prune)
    }
}

impl std::fmt::Display for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.purpose {
            Purpose::Save => "backup",
            Purpose::Retain => "forget",
            Purpose::Drill => "drill",
            Purpose::Check => "check",
            Purpose::Prune => "prune",
            Purpose::Resume => "resume",
            Purpose::Learn => "look into the repository",
        };
        match &self.job {
            Some(job) => write!(f, "{what} of {job}"),
            None => f.write_str(what),
        }
    }
}

/// A clock that shows an earlier time was never set: this program is younger.
const CLOCK_MIN: Timestamp = Timestamp::constant(1_767_225_600, 0);

impl Board {
    /// At the start. `host` is the host name that was named, `own_name` what this machine calls itself.
    #[must_use]
    pub fn new(
        settings: ServeSettings,
        state: State,
        host: Option<String>,
        own_name: String,
        began: Timestamp,
    ) -> Self {
        let known = state.jobs.values().filter_map(|kept| kept.job.clone()).collect();
        let mut board = Self {
            settings,
            config_problem: None,
            host,
            own_name,
            boot: None,
            began,
            woke: began,
            ticked: began,
            is_inside: false,
            jobs: BTreeMap::new(),
            known,
            present: BTreeSet::new(),
            resting: BTreeSet::new(),
            refused: BTreeMap::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            dropped: 0,
            engine: EngineSight::Unknown,
            state,
            running: BTreeMap::new(),
            stuck: BTreeMap::new(),
            retain_due: BTreeSet::new(),
            resume_due: false,
            resume_failed: None,
            heard: began,
            learned: None,
            is_stale: false,
            stale_count: 0,
            repository: BTreeMap::new(),
            drilled: BTreeMap::new(),
            added: BTreeMap::new(),
            size: None,
            twin: false,
            closed: false,
            learn_problem: None,
            ran: BTreeSet::new(),
            is_once: false,
        };
        board.join(began);
        board
    }

    /// The same for a run that ends by itself: no job is run twice.
    #[must_use]
    pub fn once(self) -> Self {
        Self { is_once: true, ..self }
    }

    /// The same in a container: the name of that is none for a host.
    #[must_use]
    pub fn inside(self) -> Self {
        Self { is_inside: true, ..self }
    }

    /// What is to be remembered.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What people were told.
    pub fn told(&mut self, told: Told) {
        self.state.told = told;
    }

    /// What is said about all jobs.
    #[must_use]
    pub fn settings(&self) -> &ServeSettings {
        &self.settings
    }

    /// The jobs by name.
    #[must_use]
    pub fn jobs(&self) -> &BTreeMap<String, Job> {
        &self.jobs
    }

    /// Jobs that cannot be, and why.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// Under which names jobs are saved.
    #[must_use]
    pub fn names(&self) -> Names {
        let host = self.host.as_ref().or(self.state.host.as_ref()).unwrap_or(&self.own_name);
        Names {
            host: host.clone(),
            engine: self.state.engine.clone(),
            node: self.state.node.clone(),
            boot: self.boot.clone(),
        }
    }

    /// Which node of a Swarm the engine is, and the boot of its machine. One that does not say now which node it is stays the one it was:
    /// a Swarm may be locked.
    pub fn machine(&mut self, node: Option<String>, boot: Option<String>) {
        let names = self.names();
        self.state.node = node.or(self.state.node.take());
        self.boot = boot;
        if self.names() != names {
            self.unlearn();
        }
    }

    /// Another configuration, and what the engine had last, by that; jobs whose container is gone are forgotten.
    pub fn reload(&mut self, settings: ServeSettings, found: Option<Discovered>, now: Timestamp) {
        self.settings = settings;
        self.config_problem = None;
        match found {
            _ if !self.settings.containers => self.known.clear(),
            Some(found) => self.take_in(found, now),
            None => {}
        }
        if self.settings.containers && self.engine == EngineSight::Answers {
            let (present, resting, refused) = (&self.present, &self.resting, &self.refused);
            self.known.retain(|job| {
                job.by.as_ref().is_some_and(|by| present.contains(&by.id))
                    || resting.contains(&job.name)
                    || refused.contains_key(&job.name)
            });
        }
        // What the repository has may have been changed by hand.
        self.unlearn();
        self.join(now);
    }

    /// What the repository has is to be asked, by other names or again.
    fn unlearn(&mut self) {
        self.learned = None;
        self.is_stale |= self.running.contains_key(&Track::all(Purpose::Learn));
    }

    /// A configuration that cannot be used: the one before stays.
    pub fn refuse(&mut self, problem: String) {
        self.config_problem = Some(problem);
    }

    /// What the engine has. What was known before and is not there now stays known.
    pub fn found(
        &mut self,
        found: Discovered,
        host: Option<String>,
        engine: Option<String>,
        now: Timestamp,
    ) {
        self.heard = now;
        if self.engine != EngineSight::Answers {
            self.engine = EngineSight::Answers;
            self.resume_due = true;
            self.resume_failed = None;
        }
        let names = self.names();
        self.state.host = host.or(self.state.host.take());
        self.state.engine = engine;
        // What was learned is of somebody else.
        if self.names() != names {
            self.unlearn();
        }
        self.take_in(found, now);
        self.join(now);
    }

    fn take_in(&mut self, found: Discovered, now: Timestamp) {
        let is_named = |job: &Job| found.jobs.iter().any(|other| other.name == job.name);
        let seen = |name: &str| self.state.jobs.get(name).and_then(|kept| kept.last_seen);
        let is_there =
            |name: &str| found.resting.contains(name) || found.refused.contains_key(name);
        let is_young = |job: &Job| {
            let is_recent = |seen| now.duration_since(seen) < GONE_KEPT;
            is_there(&job.name) || seen(&job.name).is_none_or(is_recent)
        };
        let mut known: Vec<_> = std::mem::take(&mut self.known)
            .into_iter()
            .filter(|job| !is_named(job) && !found.others.contains(&job.name) && is_young(job))
            .collect();
        // Containers that have another name each time must not fill the memory.
        let gone = known.iter().map(|job| job.name.as_str()).filter(|name| !is_there(name));
        let mut gone: Vec<_> = gone.map(|name| (seen(name), name.to_owned())).collect();
        let surplus = gone.len().saturating_sub(GONE_MAX);
        if surplus > 0 {
            gone.sort();
            let oldest: BTreeSet<_> =
                gone.into_iter().take(surplus).map(|(_, name)| name).collect();
            known.retain(|job| !oldest.contains(&job.name));
            self.dropped = self.dropped.saturating_add(surplus);
        }
        let of_running = |job: &Job| job.by.as_ref().map(|by| by.id.clone());
        self.present = found.jobs.iter().filter_map(of_running).collect();
        known.extend(found.jobs);
        self.known = known;
        self.resting = found.resting;
        self.refused = found.refused;
        self.notes = found.notes;
    }

    /// The engine does not answer.
    pub fn away(&mut self, problem: String, now: Timestamp) {
        self.heard = now;
        let since = match &self.engine {
            EngineSight::Away { since, .. } => *since,
            EngineSight::Unknown | EngineSight::Answers => now,
        };
        self.engine = EngineSight::Away { since, problem };
    }

    /// What the repository has, begun to be looked at then. `Err` says why it could not be.
    pub fn learn(&mut self, learned: Result<Learned, String>, begun: Timestamp, now: Timestamp) {
        if std::mem::take(&mut self.is_stale) && self.stale_count < STALE_MAX {
            self.stale_count += 1;
            return;
        }
        self.stale_count = 0;
        self.learned = Some(now);
        let learned = match learned {
            Ok(learned) => learned,
            Err(problem) => {
                self.learn_problem = Some(problem);
                return;
            }
        };
        // Of a host without a name nothing is known, and that says nothing about what it has saved.
        let is_nameless = self.is_nameless();
        self.learn_problem = None;
        (self.twin, self.closed) = (learned.twin, learned.closed);
        for name in self.jobs.keys() {
            let kept = self.state.jobs.entry(name.clone()).or_default();
            // What was made, or found to be bad, since the look began was not seen.
            let is_unseen = has_ended(&kept.save, Verdict::is_good, begun, now)
                || has_ended(&kept.drill, |verdict| verdict == Verdict::NotGood, begun, now);
            if is_unseen || is_nameless {
                continue;
            }
            kept.good = learned.jobs.get(name).cloned();
            // Somebody has looked, and saved it by hand.
            let last = kept.save.times.last_start;
            kept.suspicious &= kept.good.as_ref().is_none_or(|good| Some(good.time) <= last);
            if self.jobs.get(name).is_some_and(|job| job.drill.is_some()) {
                learn_drill(kept, learned.drilled.get(name));
            }
        }
        (self.repository, self.drilled) = (learned.jobs, learned.drilled);
        self.added = learned.added_bytes;
        self.size = Some(RepositoryReport {
            snapshots: learned.snapshots,
            stored_bytes: learned.stored_bytes,
        });
    }

    /// That drills are ordered for which nothing here has the private key. Long before the first of them is due: once a week is
    /// usual.
    #[must_use]
    pub fn impossible_drills(&self) -> Option<String> {
        let drilled = self.jobs.values().filter(|job| job.drill.is_some());
        let names: Vec<_> = drilled.map(|job| job.name.as_str()).collect();
        if !self.closed || names.is_empty() {
            return None;
        }
        Some(format!(
            "drills of {} cannot be made, since nothing here decrypts what is saved: give --identity FILE (BACKUP_IDENTITY_FILE), or \
             drill where the private key is and order none here",
            text::named(&names)
        ))
    }

    /// Since when something runs.
    #[must_use]
    pub fn since(&self, track: &Track) -> Option<Timestamp> {
        self.running.get(track).map(|run| run.since)
    }

    /// Whether anything runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// A killed run may have left containers paused or stopped.
    pub fn ask_for_resume(&mut self) {
        self.resume_due = true;
    }

    fn join(&mut self, now: Timestamp) {
        let (jobs, problems) = join(&self.settings.jobs, &self.known);
        self.jobs = jobs;
        self.problems = problems;
        let alone: BTreeSet<_> = self.known.iter().map(|job| job.name.as_str()).collect();
        // What is known of a name that several share for a while stays.
        let configured = &self.settings.jobs;
        self.state.jobs.retain(|name, _| {
            self.jobs.contains_key(name)
                || alone.contains(name.as_str())
                || configured.iter().any(|job| job.name == *name)
        });
        self.retain_due.retain(|name| self.jobs.get(name).is_some_and(|job| job.retain.is_some()));
        for (name, job) in &self.jobs {
            let kept = self.state.jobs.entry(name.clone()).or_insert_with(|| {
                let good = self.repository.get(name).cloned();
                let mut kept = JobState { good, ..JobState::default() };
                learn_drill(&mut kept, self.drilled.get(name));
                kept
            });
            // What is no longer wanted can no longer go wrong.
            if job.drill.is_none() {
                kept.drill = Lane::default();
                (kept.bad, kept.sound) = (None, None);
            }
            if job.retain.is_none() {
                kept.retain = Lane::default();
            }
            // One that has its name only beside another is no longer known when that is gone.
            kept.job = (job.by.is_some() && alone.contains(name.as_str())).then(|| job.clone());
            let is_there = self.resting.contains(name)
                || job.by.as_ref().is_some_and(|by| self.present.contains(&by.id));
            if job.by.is_some() && is_there {
                kept.last_seen = Some(now);
            }
        }
        self.tick(now);
    }

    /// Time has passed, or was set.
    pub fn tick(&mut self, now: Timestamp) {
        if now.duration_since(self.ticked).abs() >= SLEPT_MIN {
            // A clock that was not set yet has seen nothing; what has never run waits from now on.
            for lane in self.lanes().filter(|lane| lane.times.last_end.is_none()) {
                lane.times.first_seen = lane.times.first_seen.filter(|seen| *seen >= CLOCK_MIN);
            }
            // Nobody has looked at the engine meanwhile, nor could.
            (self.woke, self.heard) = (now, now);
        }
        self.ticked = now;
        self.lanes().for_each(|lane| see(lane, now));
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        let State { jobs, check, prune, .. } = &mut self.state;
        let of_jobs =
            jobs.values_mut().flat_map(|kept| [&mut kept.save, &mut kept.drill, &mut kept.retain]);
        of_jobs.chain([check, prune])
    }

    fn is_busy(&self, name: &str) -> bool {
        self.running.keys().any(|track| track.job.as_deref() == Some(name))
    }

    /// Whether nobody has said yet how this host is called. A machine's own name lasts; a container's is another one after each update, and
    /// would be another host.
    fn is_nameless(&self) -> bool {
        let is_said = self.host.is_some() || self.state.host.is_some();
        let is_awaited = self.settings.containers && self.engine != EngineSight::Answers;
        !is_said && (self.is_inside || is_awaited)
    }

    /// That nobody will say it.
    #[must_use]
    pub fn missing_name(&self) -> Option<&'static str> {
        let is_known = self.engine == EngineSight::Answers || !self.settings.containers;
        (self.is_nameless() && is_known).then_some(
            "nobody says how this host is called: this program is in a container, whose own name is another one after each update, and no \
             engine tells that of its machine: nothing is saved before --host (BACKUP_HOST) names it",
        )
    }

    /// Why a job cannot run now.
    fn waiting(&self, job: &Job) -> Option<String> {
        if self.is_nameless() {
            return Some(match self.missing_name() {
                Some(problem) => problem.to_owned(),
                None => "the engine has not said how this host is called: name it with --host"
                    .to_owned(),
            });
        }
        if let Some(since) = self.stuck.get(&Track::of(Purpose::Save, &job.name)) {
            return Some(why_stuck(&format!("its run was killed at {since:.0}")));
        }
        let by = job.by.as_ref()?;
        match &self.engine {
            EngineSight::Unknown => Some("the engine has not answered yet".to_owned()),
            EngineSight::Away { .. } => Some("the engine does not answer".to_owned()),
            EngineSight::Answers if self.present.contains(&by.id) => None,
            EngineSight::Answers if self.resting.contains(&job.name) => {
                Some(format!("its container {} does not run", by.name))
            }
            EngineSight::Answers => Some(match self.refused.get(&job.name) {
                Some(problem) => problem.clone(),
                None => format!(
                    "its container {} is gone: send SIGHUP if it is not to come back",
                    by.name
                ),
            }),
        }
    }

    fn schedule(&self, cron: &Cron) -> Schedule {
        Schedule { cron: cron.clone(), zone: self.settings.zone.clone() }
    }

    fn start(&self) -> Since {
        Since { began: self.began, catch_up: self.settings.catch_up }
    }

    /// What spreads the runs of a job: machines that share a repository do not all come at once.
    fn key(&self, track: &Track) -> String {
        format!("{track} on {}", self.names().host)
    }

    fn next(
        &self,
        track: &Track,
        cron: &Cron,
        lane: &Lane,
        good: Option<&Good>,
        now: Timestamp,
    ) -> Timestamp {
        let (schedule, key) = (self.schedule(cron), self.key(track));
        let timing = Timing {
            schedule: &schedule,
            key: &key,
            jitter_max: self.settings.jitter_max,
            at_once: track.purpose == Purpose::Save,
        };
        due::due(&timing, &lane.times, good.map(|good| good.time), self.start(), now)
    }

    fn next_save(&self, job: &Job, kept: &JobState, now: Timestamp) -> Timestamp {
        let track = Track::of(Purpose::Save, &job.name);
        let next = self.next(&track, &job.schedule, &kept.save, kept.good.as_ref(), now);
        let started = job.by.as_ref().and_then(|by| by.started);
        due::ready(started, now).map_or(next, |ready| next.max(ready))
    }

    fn overdue(&self, job: &Job, kept: &JobState, now: Timestamp) -> Option<Timestamp> {
        let (schedule, key) =
            (self.schedule(&job.schedule), self.key(&Track::of(Purpose::Save, &job.name)));
        let timing = Timing {
            schedule: &schedule,
            key: &key,
            jitter_max: self.settings.jitter_max,
            at_once: true,
        };
        let after = Duration::from_secs(job.overdue_after_seconds);
        due::overdue(
            &timing,
            &kept.save.times,
            kept.good.as_ref().map(|good| good.time),
            after,
            now,
        )
    }

    /// Whether it is known how this host is called, or will not be.
    fn is_named(&self, now: Timestamp) -> bool {
        self.engine == EngineSight::Answers
            || !self.settings.containers
            || now.duration_since(self.began).abs() >= ENGINE_TIME
    }

    fn is_learn_due(&self, now: Timestamp) -> bool {
        let after = if self.learn_problem.is_some() { LEARN_AGAIN_AFTER } else { LEARN_AFTER };
        let is_old = |learned: Timestamp| now.duration_since(learned).abs() >= after;
        self.learned.is_none_or(is_old) && self.is_named(now)
    }

    /// Whether snapshots of a job may be dropped.
    fn why_frozen(&self, kept: &JobState) -> Option<&'static str> {
        if self.twin {
            return Some("another machine saves under the same host name");
        }
        if self.learn_problem.is_some() {
            return Some("nobody can say what the repository has");
        }
        kept.bad.is_some().then_some("a drill has found a backup that is not good, and none since")
    }

    /// What may run, and when; what is due has a time that is not ahead of now. In the order in which it is to be started.
    fn tracks(&self, now: Timestamp) -> Vec<(Timestamp, Track)> {
        let mut tracks = Vec::new();
        if self.resume_due {
            let due = self.resume_failed.as_ref().map_or(Timestamp::MIN, |(_, again)| *again);
            tracks.push((due, Track::all(Purpose::Resume)));
        }
        if self.is_learn_due(now) {
            tracks.push((Timestamp::MIN, Track::all(Purpose::Learn)));
        }
        if self.learned.is_some() {
            let known = self
                .jobs
                .iter()
                .filter_map(|(name, job)| Some((name, job, self.state.jobs.get(name)?)));
            for (name, job, kept) in known.filter(|(name, ..)| !self.is_busy(name)) {
                let retain = Track::of(Purpose::Retain, name);
                if self.retain_due.contains(name) && !self.stuck.contains_key(&retain) {
                    tracks.push((Timestamp::MIN, retain));
                    continue;
                }
                if self.waiting(job).is_none() && !(self.is_once && self.ran.contains(name)) {
                    let due = self.next_save(job, kept, now);
                    tracks.push((due, Track::of(Purpose::Save, name)));
                }
                if let (Some(cron), Some(_)) = (&job.drill, &kept.good)
                    && (self.engine == EngineSight::Answers || !self.settings.containers)
                {
                    let track = Track::of(Purpose::Drill, name);
                    tracks.push((self.next(&track, cron, &kept.drill, None, now), track));
                }
            }
            for (purpose, cron, lane) in self.repository_lanes() {
                let track = Track::all(purpose);
                tracks.push((self.next(&track, cron, lane, None, now), track));
            }
        }
        let is_there =
            |track: &Track| self.running.contains_key(track) || self.stuck.contains_key(track);
        tracks.retain(|(_, track)| !is_there(track));
        tracks.sort();
        tracks
    }

    fn repository_lanes(&self) -> impl Iterator<Item = (Purpose, &Cron, &Lane)> {
        let check = self
            .settings
            .check
            .iter()
            .map(move |(cron, _)| (Purpose::Check, cron, &self.state.check));
        let prune = self
            .settings
            .prune
            .iter()
            .map(move |(cron, _)| (Purpose::Prune, cron, &self.state.prune));
        check.chain(prune)
    }

    /// What is to be started now.
    #[must_use]
    pub fn starts(&self, now: Timestamp) -> Vec<Track> {
        let mut free = self.free_places();
        let mut is_tended = self.running.keys().any(Track::is_upkeep);
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut starts = Vec::new();
        for (due, track) in self.tracks(now) {
            if due > now || track.job.as_ref().is_some_and(|job| taken.contains(job)) {
                continue;
            }
            if track.is_work() {
                if free == 0 {
                    continue;
                }
                free -= 1;
            }
            if track.is_upkeep() && std::mem::replace(&mut is_tended, true) {
                continue;
            }
            taken.extend(track.job.clone());
            starts.push(track);
        }
        starts
    }

    /// How many jobs may be begun beside those that run.
    fn free_places(&self) -> usize {
        let busy = self.running.keys().filter(|track| track.is_work()).count();
        self.settings.concurrency.saturating_sub(busy)
    }

    /// Which runs a job waits for that is due and has no place.
    fn crowd(&self) -> Option<String> {
        if self.free_places() > 0 {
            return None;
        }
        let runs = self.running.iter().filter(|(track, _)| track.is_work());
        let named: Vec<_> = runs
            .take(NAMED_MAX)
            .map(|(track, run)| format!("{track} since {:.0}", run.since))
            .collect();
        Some(format!(
            "as many run as may at once ({}): {}",
            self.settings.concurrency,
            named.join(", ")
        ))
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.tracks(now).into_iter().map(|(due, _)| due).filter(|due| *due > now).min()
    }

    /// The words of a run, and how long it may take; `None` where there is nothing to do any more.
    #[must_use]
    pub fn order(&self, track: &Track) -> Option<(Vec<String>, Duration)> {
        let names = self.names();
        let job = track.job.as_ref().and_then(|name| self.jobs.get(name));
        let kept = track.job.as_ref().and_then(|name| self.state.jobs.get(name));
        let of_job = |job: &Job| Duration::from_secs(job.time_max_seconds);
        match track.purpose {
            Purpose::Save => job.map(|job| (job.save(&names), of_job(job))),
            Purpose::Retain => Some((job?.forget(&names)?, RETAIN_TIME_MAX)),
            Purpose::Drill => Some((job::drill(&kept?.good.as_ref()?.snapshot), of_job(job?))),
            Purpose::Check => {
                let (_, share) = self.settings.check.as_ref()?;
                let mut words = vec!["check".to_owned()];
                words.extend(share.map(|share| format!("--read-data={share}")));
                Some((words, REPOSITORY_TIME_MAX))
            }
            Purpose::Prune => {
                let (_, grace) = self.settings.prune.as_ref()?;
                let mut words = vec!["prune".to_owned()];
                words.extend(grace.iter().map(|grace| format!("--grace={grace}")));
                Some((words, REPOSITORY_TIME_MAX))
            }
            Purpose::Resume => Some((vec!["resume".to_owned()], RESUME_TIME_MAX)),
            Purpose::Learn => {
                let mut words = vec!["learn".to_owned(), format!("--host={}", names.host)];
                words.extend(names.engine.iter().map(|engine| format!("--engine-id={engine}")));
                words.extend(names.own());
                Some((words, LEARN_TIME_MAX))
            }
        }
    }

    /// A run has begun. What is remembered changes only when it ends: one that is killed with this process has not happened.
    pub fn begin(&mut self, track: &Track, now: Timestamp) {
        let kept = track.job.as_ref().and_then(|name| self.state.jobs.get(name));
        let good = kept.and_then(|kept| kept.good.as_ref());
        let tried = good.cloned();
        self.running.insert(track.clone(), Running { since: now, tried });
        match (track.purpose, &track.job) {
            (Purpose::Learn, _) => self.is_stale = false,
            (Purpose::Resume, _) => self.resume_due = false,
            (Purpose::Retain, Some(job)) => drop(self.retain_due.remove(job)),
            _ => {}
        }
    }

    /// A run has ended.
    pub fn end(&mut self, track: &Track, judged: &Judged, now: Timestamp) {
        let Some(run) = self.running.remove(track) else { return };
        let verdict = judged.verdict;
        let lane = match (track.purpose, &track.job) {
            (Purpose::Check, _) => Some(&mut self.state.check),
            (Purpose::Prune, _) => Some(&mut self.state.prune),
            (Purpose::Save, Some(name)) => self.state.jobs.get_mut(name).map(|kept| &mut kept.save),
            (Purpose::Retain, Some(name)) => {
                self.state.jobs.get_mut(name).map(|kept| &mut kept.retain)
            }
            (Purpose::Drill, Some(name)) => {
                self.state.jobs.get_mut(name).map(|kept| &mut kept.drill)
            }
            _ => None,
        };
        // What was interrupted has not happened: it is due again, and what was known before still is.
        if let Some(lane) = lane.filter(|_| verdict != Verdict::Interrupted) {
            let times = &mut lane.times;
            times.last_start = Some(run.since);
            times.last_end = Some(now);
            times.failures = if verdict.may_pass() { times.failures.saturating_add(1) } else { 0 };
            lane.last = Some(Last { verdict, text: judged.text.clone() });
        }
        if track.purpose == Purpose::Resume {
            let again = now.saturating_add(RESUME_AGAIN_AFTER).unwrap_or(now);
            self.resume_due |= verdict != Verdict::Good;
            self.resume_failed = (verdict != Verdict::Good).then(|| (judged.text.clone(), again));
        }
        let Some(name) = track.job.clone() else { return };
        match track.purpose {
            // It may have found snapshots of another machine.
            Purpose::Retain if verdict == Verdict::Frozen => self.unlearn(),
            Purpose::Save => self.saved(&name, judged, run.since),
            Purpose::Drill => self.drilled(&name, verdict, run.tried),
            _ => {}
        }
    }

    /// One that was killed does not end: it is not begun again before it is gone, and holds nothing else up.
    pub fn stuck(&mut self, track: &Track, now: Timestamp) {
        self.stuck.insert(track.clone(), now);
    }

    /// It is gone.
    pub fn gone(&mut self, track: &Track) {
        self.stuck.remove(track);
    }

    /// Only a good drill takes back what a bad one has found: one that could not be made says nothing.
    fn drilled(&mut self, name: &str, verdict: Verdict, tried: Option<Good>) {
        let Some(kept) = self.state.jobs.get_mut(name) else { return };
        match verdict {
            Verdict::Good => {
                let is_newer =
                    |bad: &mut Good| tried.as_ref().is_none_or(|tried| tried.time >= bad.time);
                kept.bad.take_if(is_newer);
                kept.sound = kept.sound.max(tried.map(|tried| tried.time));
            }
            Verdict::NotGood => {
                // What cannot be restored protects nothing.
                if kept.good == tried {
                    kept.good = None;
                }
                kept.bad = tried.or(kept.bad.take());
            }
            _ => {}
        }
    }

    fn saved(&mut self, name: &str, judged: &Judged, since: Timestamp) {
        if judged.verdict != Verdict::Interrupted {
            self.ran.insert(name.to_owned());
        }
        let Some(kept) = self.state.jobs.get_mut(name) else { return };
        match (judged.verdict, &judged.snapshot) {
            (Verdict::Good | Verdict::Warnings, Some(snapshot)) => {
                kept.suspicious = false;
                kept.good = Some(Good { time: since, snapshot: snapshot.clone() });
            }
            (Verdict::Suspicious, _) => {
                kept.suspicious = true;
                return;
            }
            _ => return,
        }
        let has_rules = self.jobs.get(name).is_some_and(|job| job.retain.is_some());
        let is_free = self.state.jobs.get(name).is_some_and(|kept| self.why_frozen(kept).is_none());
        if has_rules && is_free {
            self.retain_due.insert(name.to_owned());
        }
    }

    /// Whether everything that is due was done, as far as that can be: for a run that ends by itself.
    #[must_use]
    pub fn is_through(&self, now: Timestamp) -> bool {
        let is_late = now.duration_since(self.began).abs() >= ENGINE_TIME;
        let is_seen = match self.engine {
            EngineSight::Answers => true,
            EngineSight::Unknown | EngineSight::Away { .. } => !self.settings.containers || is_late,
        };
        // A container that was just started is about to be due.
        let soon = now.saturating_add(ONCE_PATIENCE).unwrap_or(now);
        let is_later = |(due, track): &(Timestamp, Track)| match track.purpose {
            Purpose::Save => *due > soon,
            _ => *due > now,
        };
        is_seen
            && self.learned.is_some()
            && self.running.is_empty()
            && self.tracks(now).iter().all(is_later)
    }

    /// How such a run has ended: only where everything that is to be saved was, with 0.
    #[must_use]
    pub fn exit_code(&self, now: Timestamp) -> ExitCode {
        let mut code = ExitCode::Done;
        let is_away = self.settings.containers && self.engine != EngineSight::Answers;
        let is_bad = |lane: &Lane| {
            let last = lane.last.as_ref();
            last.is_some_and(|last| !matches!(last.verdict, Verdict::Good | Verdict::Warnings))
        };
        let is_away = is_away || self.missing_name().is_some();
        if is_away || !self.refused.is_empty() || self.config_problem.is_some() {
            code = ExitCode::Failed;
        }
        let is_odd = !self.problems.is_empty() || self.twin || self.impossible_drills().is_some();
        if self.jobs.is_empty() || is_odd {
            code = code.or_worse(ExitCode::Warnings);
        }
        for (name, job) in &self.jobs {
            let Some(kept) = self.state.jobs.get(name) else { continue };
            let last = kept.save.last.as_ref().filter(|_| self.ran.contains(name));
            let of_job = match last.map(|last| last.verdict) {
                Some(Verdict::Good) => ExitCode::Done,
                Some(Verdict::Warnings | Verdict::Suspicious) => ExitCode::Warnings,
                Some(_) => ExitCode::Failed,
                // It was not its time.
                None if kept.good.is_some() && self.overdue(job, kept, now).is_none() => {
                    ExitCode::Done
                }
                None => ExitCode::Failed,
            };
            code = code.or_worse(of_job);
            let is_odd = kept.suspicious || self.why_frozen(kept).is_some();
            if is_odd || is_bad(&kept.retain) || is_bad(&kept.drill) {
                code = code.or_worse(ExitCode::Warnings);
            }
        }
        for (purpose, _, lane) in self.repository_lanes() {
            let is_heard_of = lane.last.as_ref().is_some_and(|last| last.verdict.is_bad(purpose));
            code = code.or_worse(match (is_bad(lane), is_heard_of) {
                (true, _) => ExitCode::Failed,
                (false, true) => ExitCode::Warnings,
                (false, false) => ExitCode::Done,
            });
        }
        code
    }

    /// What files, labels and names say that cannot be done: one sentence each.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        broken.extend(self.config_problem.iter().map(|problem| {
            format!("the configuration cannot be used, so the one before counts: {problem}")
        }));
        broken.extend(self.missing_name().map(str::to_owned));
        if self.twin {
            broken.push(format!(
                "another machine saves under the host name {} too: give each its own with --host; nothing is forgotten until \
                 then",
                self.names().host
            ));
        }
        broken.extend(self.impossible_drills());
        broken.extend(self.problems.iter().cloned());
        let refused = self.refused.iter();
        broken.extend(refused.map(|(name, problem)| format!("{name} is not saved: {problem}")));
        broken.iter().map(|text| plain(text, SENTENCE_CHARS_MAX)).collect()
    }

    /// How it is doing.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> Report {
        let broken = self.broken();
        let mut ailments = broken.clone();
        let mut notes = self.notes.clone();
        if self.dropped > 0 {
            notes.push(format!(
                "{} jobs whose containers are gone are forgotten already, since {GONE_MAX} of these are remembered",
                self.dropped
            ));
        }
        if let EngineSight::Away { since, problem } = &self.engine
            && self.settings.containers
        {
            let text = format!("the engine does not answer since {since:.0}: {problem}");
            let is_long = now.duration_since(*since).abs() >= ENGINE_AWAY_MAX;
            if is_long { ailments.push(text) } else { notes.push(text) }
        }
        let silent = now.duration_since(self.heard).abs();
        if self.settings.containers && silent >= ENGINE_SILENT_MAX {
            ailments.push(format!("nobody has looked at the engine since {:.0}", self.heard));
        }
        ailments.extend(self.resume_failed.iter().map(|(problem, _)| {
            format!("what a killed run has left paused or stopped may stay so: {problem}")
        }));
        ailments.extend(
            self.learn_problem
                .iter()
                .map(|problem| format!("nobody can say what the repository has: {problem}")),
        );
        ailments.extend(
            self.stuck
                .iter()
                .map(|(track, since)| why_stuck(&format!("the {track} was killed at {since:.0}"))),
        );
        let crowd = self.crowd();
        let is_over = self.is_once && self.is_through(now);
        let mut jobs = Vec::new();
        for (name, job) in &self.jobs {
            let Some(kept) = self.state.jobs.get(name) else { continue };
            let mut report = self.job_report(job, kept, now);
            report.catching_up &= !is_over;
            let is_due = report.save.running_since.is_none()
                && report.save.next.is_some_and(|next| next <= now);
            report.waiting = report.waiting.or_else(|| crowd.clone().filter(|_| is_due));
            if let Some(since) = report.overdue_since {
                let why = report.waiting.as_ref().or(report.save.last_text.as_ref());
                let why = why.map(|why| format!("; {why}")).unwrap_or_default();
                ailments.push(format!(
                    "{name} is overdue: a good backup is missing since {since:.0}{why}"
                ));
            }
            ailments.extend(ailments_of(name, kept));
            let failed = kept.save.last.as_ref().filter(|last| {
                let is_told = report.overdue_since.is_some() || last.verdict.is_good();
                !is_told && !matches!(last.verdict, Verdict::Suspicious | Verdict::Interrupted)
            });
            notes.extend(failed.map(|last| format!("{name}: its last backup: {}", last.text)));
            if kept.suspicious {
                notes.push(format!(
                    "{name}: its last backup is suspicious, look at it: nothing older is forgotten"
                ));
            }
            let frozen = kept.retain.last.as_ref().filter(|last| last.verdict == Verdict::Frozen);
            notes.extend(frozen.map(|last| format!("{name}: its old snapshots: {}", last.text)));
            jobs.push(report);
        }
        for (purpose, _, lane) in self.repository_lanes() {
            let bad = lane.last.as_ref().filter(|last| last.verdict.is_bad(purpose));
            ailments
                .extend(bad.map(|last| format!("the last {}: {}", Track::all(purpose), last.text)));
        }
        let of_repository = |purpose: Purpose| {
            let lane = self.repository_lanes().find(|(other, ..)| *other == purpose);
            lane.map(|(_, cron, lane)| {
                let track = Track::all(purpose);
                self.lane_report(&track, lane, Some(self.next(&track, cron, lane, None, now)))
            })
        };
        Report {
            time: now,
            host: self.names().host,
            well: ailments.is_empty(),
            broken,
            ailments: ailments.iter().map(|text| plain(text, SENTENCE_CHARS_MAX)).collect(),
            notes: notes.iter().map(|text| plain(text, SENTENCE_CHARS_MAX)).collect(),
            jobs,
            check: of_repository(Purpose::Check),
            prune: of_repository(Purpose::Prune),
            repository: self.size.clone(),
        }
    }

    fn job_report(&self, job: &Job, kept: &JobState, now: Timestamp) -> JobReport {
        let track = |purpose| Track::of(purpose, &job.name);
        let good = kept.good.as_ref();
        let drill = job.drill.as_ref().map(|cron| {
            let next = self.next(&track(Purpose::Drill), cron, &kept.drill, None, now);
            self.lane_report(&track(Purpose::Drill), &kept.drill, Some(next))
        });
        let retain = job.retain.as_ref();
        let overdue_since = self.overdue(job, kept, now);
        JobReport {
            name: job.name.clone(),
            kind: job.kind().to_owned(),
            container: job.by.as_ref().map(|by| by.name.clone()),
            schedule: job.schedule.to_string(),
            last_good: good.map(|good| good.time),
            last_good_snapshot: good.map(|good| good.snapshot.clone()),
            added_bytes: self.added.get(&job.name).copied(),
            overdue_since,
            catching_up: overdue_since.is_some_and(|since| self.is_made_up(job, kept, since, now)),
            bad_snapshot: kept.bad.as_ref().map(|bad| bad.snapshot.clone()),
            waiting: self.waiting(job),
            save: self.lane_report(
                &track(Purpose::Save),
                &kept.save,
                Some(self.next_save(job, kept, now)),
            ),
            retain: retain.map(|_| self.lane_report(&track(Purpose::Retain), &kept.retain, None)),
            drill,
        }
    }

    /// Whether a run for what was missed while nobody ran is about to come, or goes on: it was not the turn of anybody yet.
    fn is_made_up(&self, job: &Job, kept: &JobState, since: Timestamp, now: Timestamp) -> bool {
        let is_tried = past(kept.save.times.last_end, now).is_some_and(|end| end >= self.woke);
        let wait = SignedDuration::try_from(self.settings.catch_up).unwrap_or(CATCH_UP_TIME);
        let time = CATCH_UP_TIME.saturating_add(wait);
        // One that runs may take as long as it may be late.
        let late = i64::try_from(job.overdue_after_seconds).unwrap_or(i64::MAX);
        let late = SignedDuration::from_secs(late);
        let runs = self.running.contains_key(&Track::of(Purpose::Save, &job.name));
        let time = if runs { time.max(late) } else { time };
        since < self.woke && !is_tried && now.duration_since(self.woke) < time
    }

    fn lane_report(&self, track: &Track, lane: &Lane, next: Option<Timestamp>) -> LaneReport {
        LaneReport {
            running_since: self.running.get(track).map(|run| run.since),
            next,
            last_start: lane.times.last_start,
            last_end: lane.times.last_end,
            last_verdict: lane.last.as_ref().map(|last| last.verdict),
            last_text: lane.last.as_ref().map(|last| last.text.clone()),
            failures: lane.times.failures,
        }
    }
}

/// What is wrong with a job beside that it may be overdue.
fn ailments_of(name: &str, kept: &JobState) -> Vec<String> {
    let bad = |lane: &Lane| {
        let last = lane.last.as_ref()?;
        let is_well =
            matches!(last.verdict, Verdict::Good | Verdict::Frozen | Verdict::Interrupted);
        (!is_well).then(|| last.text.clone())
    };
    let drill = bad(&kept.drill).map(|text| format!("{name}: the drill of its backup: {text}"));
    let is_told = kept.drill.last.as_ref().is_some_and(|last| last.verdict == Verdict::NotGood);
    let unsound = kept.bad.as_ref().filter(|_| !is_told).map(|bad| {
        format!(
            "{name}: a drill has found that its backup of {:.0} cannot be restored as it should: nothing older is forgotten before \
             one is good",
            bad.time
        )
    });
    let retain = bad(&kept.retain).map(|text| format!("{name}: old snapshots of it stay: {text}"));
    drill.into_iter().chain(unsound).chain(retain).collect()
}

/// Whether the last run of a lane has ended since then, in this way.
fn has_ended(
    lane: &Lane,
    is_such: impl Fn(Verdict) -> bool,
    since: Timestamp,
    now: Timestamp,
) -> bool {
    let is_since = past(lane.times.last_end, now).is_some_and(|end| end >= since);
    is_since && lane.last.as_ref().is_some_and(|last| is_such(last.verdict))
}

/// Takes over what the newest drill has found of which the repository knows: somebody may have tried a backup by hand, and state is lost.
fn learn_drill(kept: &mut JobState, newest: Option<&Drilled>) {
    let Some(newest) = newest else { return };
    let is_as_new = |time: Option<Timestamp>| time.is_none_or(|time| newest.time >= time);
    let is_as_new = is_as_new(kept.bad.as_ref().map(|bad| bad.time));
    if newest.good {
        kept.sound = kept.sound.max(Some(newest.time));
        kept.bad = kept.bad.take().filter(|_| !is_as_new);
    } else if is_as_new && kept.sound.is_none_or(|sound| newest.time >= sound) {
        kept.bad = Some(Good { time: newest.time, snapshot: newest.snapshot.clone() });
    }
}

/// What is said of a run that does not end.
fn why_stuck(what: &str) -> String {
    format!(
        "{what} and does not end, since what it reads or writes hangs: it is not begun again before it is gone"
    )
}

/// It is known from now on, unless it was before; one that is known from a future on is not.
fn see(lane: &mut Lane, now: Timestamp) {
    let seen = past(lane.times.first_seen, now);
    lane.times.first_seen = Some(seen.unwrap_or(now));
}
