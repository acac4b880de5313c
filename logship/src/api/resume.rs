//! Where in the log of a container reading stands, and what of a reply of the engine is new. Pure.
//!
//! The engine gives no positions, so the place is known by what is before it. A read that does not follow
//! (`tail=K` or everything) opens all files of the log under the engine's lock: it is an exact picture, in the
//! order of the files. In it the last messages that were taken are searched; what comes after them is new, and
//! when the picture begins after them, what lies between is lost, exactly.
//!
//! A follower is quick but may leave out whole files when the log is rotated twice while it lags, and Docker 20.10
//! may send some messages again. So what it sends is taken when it cannot be an old message, and remembered as
//! *ahead* of the proven place until a picture shows what was left out between.
//!
//! Podman's picture of the end of a log is no exact one: it reads the end, and then from the end of the file as it
//! is by then ([`Picture::that_may_skip`]). What was known before it was asked for is in the first part, without a
//! hole. What comes after that may come behind one, so it is ahead until the next picture.
//!
//! `since` is not used at all. Engines before 24.0 test every line against it, later ones a prefix only, so
//! after a step of the clock back it hides lines or does not, and it costs a read of everything retained.

use std::collections::{HashMap, VecDeque};

use crate::cursor::Cursor;
use crate::cursor::api::{AHEAD_MAX, ApiCursor, Hole, RECENT_RUNS_MAX, Run, Seen, push_run, trim};
use crate::record::{Control, Gap, GapReason, Stream};

#[cfg(test)]
mod tests;

/// The place that reading has reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Position {
    /// The last messages before it.
    recent: VecDeque<Run>,
    /// Taken from beyond it.
    ahead: VecDeque<Seen>,
    /// The youngest time before it.
    newest: Option<i64>,
    /// The youngest time of all that was taken.
    newest_taken: Option<i64>,
    /// Time of the last message taken of each stream, late ones left aside.
    last: [Option<i64>; 4],
    /// The youngest of each stream: younger than the last one for a while after the clock went back.
    peak: [Option<i64>; 4],
    /// Of each stream: the time of its last message before the place, and how many messages have it.
    groups: [Option<(i64, u32)>; 4],
    /// What is lost and not told of.
    hole: Option<Hole>,
    /// The run of the container that is read to its end.
    ended: Option<i64>,
}

/// One change of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The place moves over a message of a picture.
    Proven { seen: Seen, was_ahead: bool, late: bool },
    /// A message was taken from beyond the place.
    Ahead { seen: Seen, late: bool },
    /// So many of the first messages ahead are rotated away, or were none.
    Forget(usize),
    /// Messages are lost.
    Lost(Hole),
    /// The stream was told of them.
    Told(Stream),
    /// The run that ended then is read to its end.
    Ended(i64),
}

/// Those that a container has.
const STREAMS: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::Console];

fn lane(stream: Stream) -> usize {
    match stream {
        Stream::File => 0,
        Stream::Stdout => 1,
        Stream::Stderr => 2,
        Stream::Console => 3,
    }
}

impl Position {
    fn new(cursor: &ApiCursor) -> Self {
        let mut position = Self {
            recent: cursor.recent.clone(),
            newest: cursor.newest,
            newest_taken: cursor.newest,
            hole: cursor.hole.clone(),
            ended: cursor.ended,
            ..Self::default()
        };
        for run in &cursor.ahead {
            let room = AHEAD_MAX.saturating_sub(position.ahead.len());
            let count = usize::try_from(run.count).unwrap_or(usize::MAX).min(room);
            position.ahead.extend(std::iter::repeat_n(run.seen, count));
            position.newest_taken = position.newest_taken.max(Some(run.seen.ts));
        }
        for (stream, ts) in &cursor.last {
            position.set_last(*stream, *ts);
        }
        for run in &cursor.recent {
            position.count(run.seen, run.count);
        }
        for (stream, ts, count) in &cursor.groups {
            if let Some(group) = position.groups.get_mut(lane(*stream)) {
                *group = Some((*ts, *count));
            }
        }
        position
    }

    fn last(&self, stream: Stream) -> Option<i64> {
        self.last.get(lane(stream)).copied().flatten()
    }

    fn set_last(&mut self, stream: Stream, ts: i64) {
        let at = lane(stream);
        if let (Some(last), Some(peak)) = (self.last.get_mut(at), self.peak.get_mut(at)) {
            *last = Some(ts);
            *peak = (*peak).max(Some(ts));
        }
    }

    fn count(&mut self, seen: Seen, count: u32) {
        if let Some(group) = self.groups.get_mut(lane(seen.stream)) {
            let before = group.filter(|(ts, _)| *ts == seen.ts).map_or(0, |(_, count)| count);
            *group = Some((seen.ts, before.saturating_add(count)));
        }
    }

    /// The last messages, those ahead included or not, and how many have the time of the last one.
    fn pattern(&self, with_ahead: bool) -> Search {
        let mut runs = self.recent.clone();
        let mut groups = self.groups;
        if with_ahead {
            let mut counted = Self { groups, ..Self::default() };
            for seen in &self.ahead {
                push_run(&mut runs, Run { seen: *seen, count: 1 });
                counted.count(*seen, 1);
            }
            trim(&mut runs);
            groups = counted.groups;
        }
        let last = runs.back().map(|run| run.seen);
        let group = last.and_then(|last| groups.get(lane(last.stream)).copied().flatten());
        let group_count = match (group, last) {
            (Some((ts, count)), Some(last)) if ts == last.ts => count,
            _ => 1,
        };
        Search::new(runs.into(), group_count)
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Proven { seen, was_ahead, late } => {
                push_run(&mut self.recent, Run { seen, count: 1 });
                trim(&mut self.recent);
                self.count(seen, 1);
                self.newest = self.newest.max(Some(seen.ts));
                self.newest_taken = self.newest_taken.max(Some(seen.ts));
                self.ended = None;
                if was_ahead {
                    if self.ahead.front() == Some(&seen) {
                        self.ahead.pop_front();
                    } else if let Some(at) = self.ahead.iter().position(|known| *known == seen) {
                        self.ahead.remove(at);
                    }
                } else if !late || self.last(seen.stream).is_none() {
                    // The first of a stream comes after none of its own, and is all that says there is such a stream.
                    self.set_last(seen.stream, seen.ts);
                }
            }
            Step::Ahead { seen, late } => {
                self.ahead.push_back(seen);
                self.newest_taken = self.newest_taken.max(Some(seen.ts));
                if !late || self.last(seen.stream).is_none() {
                    self.set_last(seen.stream, seen.ts);
                }
                self.ended = None;
            }
            Step::Forget(count) => drop(self.ahead.drain(..count.min(self.ahead.len()))),
            Step::Lost(hole) => match &mut self.hole {
                Some(open) => {
                    open.exact &= hole.exact;
                    open.from = open.from.min(hole.from);
                    open.streams.extend(hole.streams);
                    open.streams.sort_unstable();
                    open.streams.dedup();
                }
                none => *none = Some(hole),
            },
            Step::Told(stream) => {
                if let Some(hole) = &mut self.hole {
                    hole.streams.retain(|open| *open != stream);
                }
                self.hole.take_if(|hole| hole.streams.is_empty());
            }
            Step::Ended(at) => self.ended = Some(at),
        }
    }

    /// What a stream is to be told of what is lost, when `to` is the time of its next message.
    fn gap(&self, stream: Stream, to: Option<i64>) -> Option<Control> {
        let hole = self.hole.as_ref().filter(|hole| hole.streams.contains(&stream))?;
        let from = self.last(stream);
        let from = if hole.exact { from } else { from.min(hole.from.or(from)) };
        let exact = hole.exact && from.is_some();
        let reason = GapReason::Rotated;
        Some(Control::Gap(Gap {
            from_byte: None,
            reason,
            from,
            to,
            bytes: None,
            lines: None,
            exact,
        }))
    }
}

/// What to do with a message of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken before, or nobody knows yet.
    Skip,
    /// The picture begins after the last message that was taken: a larger one is needed.
    TooShort,
    /// No more can be remembered as ahead: another picture proves what was taken, and goes on.
    Full,
    /// It is new.
    Take {
        /// It came after younger ones of the log.
        late: bool,
        /// What is to be told before it, of its stream.
        before: Option<Control>,
    },
}

/// What a whole picture showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything in it is taken. What is to be told of streams that were not in it.
    Proven(Vec<(Stream, Control)>),
    /// It was too short to tell.
    TooShort,
    /// It was everything, and the last message that was taken is not in it: read again with
    /// [`Picture::of_the_rest`].
    Lost,
    /// All that can be remembered was taken of it: look again.
    Full,
    /// There was nothing in it. When something was taken before, all of that is gone; what comes next tells.
    Empty,
}

/// What to do with a message of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It is new.
    Take,
    /// It may be an old one: only a picture can tell.
    Doubt,
}

/// Keeps the position: the one of what was taken, and the one of what was handed on, which a cursor tells.
#[derive(Debug)]
pub struct Tracker {
    live: Position,
    told: Position,
    /// Steps of `live` that `told` has not made, each with the number of messages taken by then.
    steps: VecDeque<(u64, Step)>,
    /// Messages taken.
    taken: u64,
    /// A cursor was told, so that the next one adds to it.
    is_told: bool,
    /// The first message of the log, when it was taken by this tracker.
    first: Option<Seen>,
}

impl Tracker {
    /// Goes on from a cursor. That of the direct path names the last message of each stream in the order of the
    /// file; the last of them is the place.
    #[must_use]
    pub fn new(cursor: Option<&Cursor>) -> Self {
        let position = match cursor {
            Some(Cursor::Api(cursor)) => Position::new(cursor),
            Some(Cursor::Direct(direct)) => {
                let mut position = Position::default();
                for line in &direct.last {
                    position.newest = position.newest.max(Some(line.ts));
                    position.set_last(line.stream, line.ts);
                }
                if let Some(line) = direct.last.last() {
                    let seen = Seen { stream: line.stream, ts: line.ts, hash: line.hash as u32 };
                    position.recent.push_back(Run { seen, count: 1 });
                }
                position.newest_taken = position.newest;
                position
            }
            Some(Cursor::File(_)) | None => Position::default(),
        };
        Self {
            told: position.clone(),
            live: position,
            steps: VecDeque::new(),
            taken: 0,
            is_told: false,
            first: None,
        }
    }

    /// Messages taken by this tracker: the mark of what comes next.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Nothing was ever taken.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.live.newest_taken.is_none()
    }

    /// Messages that are not proven to be all there were.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.live.ahead.len()
    }

    /// The time of the last proven message.
    #[must_use]
    pub fn proven_ts(&self) -> Option<i64> {
        self.live.recent.back().map(|run| run.seen.ts)
    }

    /// The time of the youngest message.
    #[must_use]
    pub fn newest_ts(&self) -> Option<i64> {
        self.live.newest_taken
    }

    /// Whether the run that ended at `finished` is read to its end.
    #[must_use]
    pub fn is_ended(&self, finished: i64) -> bool {
        self.live.ended == Some(finished)
    }

    /// Whether the last run is read to its end, and nothing came since.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.live.ended.is_some()
    }

    /// The run that ended at `finished` is read to its end.
    pub fn end(&mut self, finished: i64) {
        self.step(Step::Ended(finished));
    }

    /// A message of a follower that found its place. `trusted`: the log is never rotated, so nothing can be
    /// left out.
    pub fn follow(&mut self, seen: Seen, trusted: bool) -> Live {
        // Within a stream times never go back in the order of the files, unless the clock does. An equal time
        // is that of another piece of the same line, or the whole message is sent again.
        let peak = self.live.peak.get(lane(seen.stream)).copied().flatten();
        let is_old = match (peak, trusted) {
            (Some(peak), false) => seen.ts < peak,
            (Some(_), true) => self.live.last(seen.stream).is_some_and(|last| seen.ts < last),
            (None, _) => false,
        };
        // A picture tells of a hole at its end exactly.
        let ends_hole = self.live.gap(seen.stream, None).is_some();
        if is_old || ends_hole || (self.live.newest_taken >= Some(seen.ts) && self.knows(seen)) {
            return Live::Doubt;
        }
        let has_room = self.live.ahead.len() < AHEAD_MAX;
        if !trusted && !has_room {
            return Live::Doubt;
        }
        // The first message of all is where the log begins, and there is nothing before it to be proven. What comes
        // behind unproven ones is no more proven than they are: a place among them is one that no picture has.
        let is_behind_unproven = !self.live.ahead.is_empty() && has_room;
        let is_proven = self.is_new() || (trusted && !is_behind_unproven);
        self.taken += 1;
        if is_proven {
            self.step(Step::Proven { seen, was_ahead: false, late: false });
        } else {
            self.step(Step::Ahead { seen, late: false });
        }
        Live::Take
    }

    fn knows(&self, seen: Seen) -> bool {
        self.live.recent.iter().any(|run| run.seen == seen)
            || self.live.ahead.iter().rev().take(RECENT_RUNS_MAX).any(|known| *known == seen)
    }

    /// What is to be written behind everything with a mark up to `mark`: what changed since the last call.
    pub fn cursor_at(&mut self, mark: u64) -> ApiCursor {
        let mut update = ApiCursor::default();
        // What was before may be a cursor of another kind.
        let is_first = !std::mem::replace(&mut self.is_told, true);
        let mut shrinks = is_first;
        update.recent_is_whole = is_first;
        while let Some((_, step)) = self.steps.pop_front_if(|(at, _)| *at <= mark) {
            self.told.apply(step.clone());
            match step {
                Step::Proven { seen, was_ahead, .. } => {
                    push_run(&mut update.recent, Run { seen, count: 1 });
                    if update.recent.len() > RECENT_RUNS_MAX {
                        trim(&mut update.recent);
                        update.recent_is_whole = true;
                    }
                    shrinks |= was_ahead;
                }
                Step::Ahead { seen, .. } => {
                    push_run(&mut update.ahead, Run { seen, count: 1 });
                }
                Step::Forget(_) => shrinks = true,
                Step::Lost(_) | Step::Told(_) | Step::Ended(_) => {}
            }
        }
        if update.recent_is_whole {
            update.recent = self.told.recent.clone();
        }
        if shrinks {
            update.ahead.clear();
            for seen in &self.told.ahead {
                push_run(&mut update.ahead, Run { seen: *seen, count: 1 });
            }
            update.ahead_is_whole = true;
        }
        update.newest = self.told.newest;
        for stream in STREAMS {
            update.last.extend(self.told.last(stream).map(|ts| (stream, ts)));
        }
        for stream in STREAMS {
            let group = self.told.groups.get(lane(stream)).copied().flatten();
            update.groups.extend(group.filter(|g| g.1 > 1).map(|(ts, count)| (stream, ts, count)));
        }
        update.hole.clone_from(&self.told.hole);
        update.ended = self.told.ended;
        update
    }

    fn step(&mut self, step: Step) {
        if let Step::Proven { seen, .. } = &step
            && self.is_new()
        {
            self.first = Some(*seen);
        }
        self.live.apply(step.clone());
        self.steps.push_back((self.taken, step));
    }
}

/// How much of a log a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many messages from its end.
    Tail(u64),
    /// All that is retained.
    Everything,
}

/// One reply that does not follow, read from its first message to its last.
#[derive(Debug)]
pub struct Picture {
    extent: Extent,
    search: Option<Search>,
    count: u64,
    /// Taken before from beyond the place, and not met yet in this picture.
    ahead: HashMap<Seen, u32>,
    ahead_count: usize,
    newest: Option<i64>,
    /// Behind what was known before, messages may be left out.
    may_skip: bool,
    /// What is lost before the first message was told.
    is_loss_told: bool,
    /// New messages since the last one that was known, where that is so while others that are known are still to be
    /// met: if one of those is, they are complete; if none ever is, they may stand behind what is left out.
    unsure: Vec<Seen>,
}

impl Picture {
    /// Searches the place of `tracker`.
    #[must_use]
    pub fn new(tracker: &Tracker, extent: Extent) -> Self {
        Self::of(tracker, extent, Some(tracker.live.pattern(false)))
    }

    /// Of everything, when it is known that the place is not in it.
    #[must_use]
    pub fn of_the_rest(tracker: &Tracker) -> Self {
        Self::of(tracker, Extent::Everything, None)
    }

    fn of(tracker: &Tracker, extent: Extent, search: Option<Search>) -> Self {
        let (ahead, ahead_count) = counted(&tracker.live.ahead);
        Self {
            extent,
            search,
            count: 0,
            ahead,
            ahead_count,
            newest: None,
            may_skip: false,
            is_loss_told: false,
            unsure: Vec::new(),
        }
    }

    /// Of an engine that may leave out what is written while it answers for the end of a log. What is new then is
    /// proven by another picture; [`Tracker::ahead`] says whether there is such.
    #[must_use]
    pub fn that_may_skip(self) -> Self {
        Self { may_skip: true, ..self }
    }

    /// Of the rest once more, after one that was [`Outcome::Full`].
    #[must_use]
    pub fn that_goes_on(self) -> Self {
        Self { is_loss_told: true, ..self }
    }

    /// The next message of the picture; `ends_line`: it is the end of a line, or all of one. Pieces of a line may
    /// be equal, lines never are.
    pub fn message(&mut self, tracker: &mut Tracker, seen: Seen, ends_line: bool) -> Verdict {
        self.count += 1;
        self.newest = self.newest.max(Some(seen.ts));
        if self.count == 1 {
            let is_start = tracker.first == Some(seen);
            match self.begin(&tracker.live, seen, ends_line, is_start) {
                Begin::Search => {}
                Begin::Within => {
                    let from = tracker.live.newest;
                    let streams = vec![seen.stream];
                    tracker.step(Step::Lost(Hole { exact: false, from, streams }));
                }
                Begin::New => self.search = None,
                Begin::TooShort => return Verdict::TooShort,
                Begin::Lost => self.lose(tracker, seen),
            }
        }
        if let Some(search) = &mut self.search {
            match search.message(seen, ends_line) {
                Found::Not => return Verdict::Skip,
                Found::Last => {
                    self.search = None;
                    return Verdict::Skip;
                }
                Found::Passed => self.search = None,
            }
        }
        self.take(tracker, seen)
    }

    /// `is_start`: it is the first message of the log.
    fn begin(&self, position: &Position, first: Seen, ends_line: bool, is_start: bool) -> Begin {
        let is_tail = self.extent != Extent::Everything;
        let Some(search) = &self.search else { return Begin::Lost };
        if search.pattern.is_empty() {
            return if is_tail { Begin::TooShort } else { Begin::New };
        };
        // A message before the place is not younger than the youngest before it.
        let is_after = position.newest.is_some_and(|newest| first.ts > newest);
        let is_within = search.begins_within(first, ends_line);
        match (is_after, is_tail) {
            (true, true) => Begin::TooShort,
            (true, false) => Begin::Lost,
            (false, true) if is_within => Begin::TooShort,
            (false, false) if is_within && !is_start && !search.is_from_start() => Begin::Within,
            (false, _) => Begin::Search,
        }
    }

    /// The place is not in this picture: everything in it is new.
    fn lose(&mut self, tracker: &mut Tracker, first: Seen) {
        self.search = None;
        let position = &tracker.live;
        if self.is_loss_told || position.newest_taken.is_none() {
            return;
        }
        let streams = STREAMS.into_iter();
        let streams = streams.filter(|s| *s == first.stream || position.last(*s).is_some());
        let exact = position.ahead.is_empty();
        let hole = Hole { exact, from: position.newest, streams: streams.collect() };
        tracker.step(Step::Lost(hole));
        if !exact {
            let ahead = &tracker.live.ahead;
            let gone = ahead.iter().position(|seen| *seen == first);
            let gone =
                gone.unwrap_or_else(|| ahead.iter().take_while(|seen| seen.ts < first.ts).count());
            tracker.step(Step::Forget(gone));
            (self.ahead, self.ahead_count) = counted(&tracker.live.ahead);
        }
    }

    fn take(&mut self, tracker: &mut Tracker, seen: Seen) -> Verdict {
        if let Some(count) = self.ahead.get_mut(&seen).filter(|count| **count > 0) {
            *count -= 1;
            self.ahead_count -= 1;
            for seen in self.unsure.drain(..) {
                tracker.step(Step::Proven { seen, was_ahead: true, late: true });
            }
            tracker.step(Step::Proven { seen, was_ahead: true, late: false });
            return Verdict::Skip;
        }
        let late = self.ahead_count > 0;
        let has_room = tracker.ahead() < AHEAD_MAX;
        // Without room for a single one, all that fills it is known and still to be met.
        let is_known_alone = late && self.unsure.is_empty();
        if self.may_skip && !has_room && !is_known_alone {
            return Verdict::Full;
        }
        let is_ahead = self.may_skip && has_room;
        let last = tracker.live.last(seen.stream).filter(|last| seen.ts < *last && !late);
        let gap = tracker.live.gap(seen.stream, Some(seen.ts));
        let step = last.map(|from| Control::ClockStep { from, to: seen.ts });
        if gap.is_some() {
            tracker.step(Step::Told(seen.stream));
        }
        let before = gap.or(step);
        tracker.taken += 1;
        if is_ahead && late {
            self.unsure.push(seen);
        }
        tracker.step(match is_ahead {
            true => Step::Ahead { seen, late },
            false => Step::Proven { seen, was_ahead: false, late },
        });
        Verdict::Take { late, before }
    }

    /// After the last message of a reply that ended well.
    pub fn finish(mut self, tracker: &mut Tracker) -> Outcome {
        if self.count == 0 {
            return match self.extent {
                Extent::Everything if tracker.is_new() => Outcome::Proven(Vec::new()),
                _ => Outcome::Empty,
            };
        }
        if let Some(search) = &mut self.search
            && !search.finish()
        {
            return match self.extent {
                Extent::Tail(_) => Outcome::TooShort,
                Extent::Everything => Outcome::Lost,
            };
        }
        // Those that were not met; what this picture itself put ahead is behind them.
        if self.ahead_count > 0 {
            tracker.step(Step::Forget(self.ahead_count));
        }
        let mut told = Vec::new();
        for stream in STREAMS {
            if let Some(gap) = tracker.live.gap(stream, self.newest) {
                tracker.step(Step::Told(stream));
                told.push((stream, gap));
            }
        }
        Outcome::Proven(told)
    }
}

fn counted(ahead: &VecDeque<Seen>) -> (HashMap<Seen, u32>, usize) {
    let mut counts = HashMap::new();
    for seen in ahead {
        *counts.entry(*seen).or_insert(0) += 1;
    }
    (counts, ahead.len())
}

enum Begin {
    Search,
    /// Among equal messages, some of which were taken: one may be lost, and nobody can tell.
    Within,
    New,
    TooShort,
    Lost,
}

/// Finds the place of a tracker at the begin of what a follower sends, which is the end of the log first.
#[derive(Debug)]
pub struct Attach {
    extent: Extent,
    search: Search,
    newest: Option<i64>,
    count: u64,
}

/// What a message of a follower is that has not found its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Before the place.
    Before,
    /// The last one that was taken: the next is new.
    Last,
    /// It is the first new one.
    New,
    /// The place is before what the follower sends.
    No,
}

impl Attach {
    /// Searches the place of `tracker` in a reply that begins with what is retained to this extent.
    #[must_use]
    pub fn new(tracker: &Tracker, extent: Extent) -> Self {
        let newest = tracker.live.newest_taken;
        Self { extent, search: tracker.live.pattern(true), newest, count: 0 }
    }

    /// The next message; `ends_line` as in [`Picture::message`].
    pub fn message(&mut self, seen: Seen, ends_line: bool) -> Attached {
        self.count += 1;
        if self.search.pattern.is_empty() {
            return Attached::New;
        }
        if self.count == 1 {
            let is_tail = self.extent != Extent::Everything;
            let is_after = self.newest.is_some_and(|newest| seen.ts > newest);
            let is_within = self.search.begins_within(seen, ends_line);
            if is_after || (is_within && (is_tail || !self.search.is_from_start())) {
                return Attached::No;
            }
        }
        match self.search.message(seen, ends_line) {
            Found::Not => Attached::Before,
            Found::Last => Attached::Last,
            Found::Passed => Attached::New,
        }
    }

    /// Messages so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Finds the end of a pattern of runs in a sequence that may begin within it.
#[derive(Debug)]
struct Search {
    pattern: Vec<Run>,
    /// Messages with the stream and time of the last of the pattern, up to it.
    group_count: u32,
    group_seen: u32,
    /// The sequence began among them: only their number counts.
    is_within: bool,
    /// Runs of the sequence before the current one, as many as the pattern has.
    history: VecDeque<Run>,
    /// The first run of the sequence is still in `history`, or is the current one.
    has_first: bool,
    current: Option<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Not,
    /// This message is the last of the pattern.
    Last,
    /// The one before was.
    Passed,
}

impl Search {
    fn new(pattern: Vec<Run>, group_count: u32) -> Self {
        Self {
            pattern,
            group_count,
            group_seen: 0,
            is_within: false,
            history: VecDeque::new(),
            has_first: true,
            current: None,
        }
    }

    fn is_of_group(&self, seen: Seen) -> bool {
        let last = self.pattern.last().map(|run| run.seen);
        last.is_some_and(|last| last.stream == seen.stream && last.ts == seen.ts)
    }

    /// Whether a sequence with this first message begins among pieces of the line whose piece was the last that was
    /// taken: how many of them are cut off cannot be known.
    fn begins_within(&self, first: Seen, ends_line: bool) -> bool {
        self.is_of_group(first) && !ends_line
    }

    /// Whether all that was ever taken are pieces of one line: nothing is cut off before them.
    fn is_from_start(&self) -> bool {
        let count = self.pattern.iter().map(|run| run.count).fold(0, u32::saturating_add);
        self.group_count == count && self.pattern.iter().all(|run| self.is_of_group(run.seen))
    }

    fn message(&mut self, seen: Seen, ends_line: bool) -> Found {
        let is_first = self.has_first && self.current.is_none();
        if self.is_of_group(seen) {
            self.is_within |= is_first && !ends_line;
            self.group_seen = self.group_seen.saturating_add(1);
            if self.is_within {
                self.current = Some(Run { seen, count: 1 });
                return if self.group_seen == self.group_count { Found::Last } else { Found::Not };
            }
        } else if self.pattern.last().is_some_and(|last| last.seen.stream == seen.stream) {
            if self.is_within {
                // Fewer than were taken: some were cut off.
                return Found::Passed;
            }
            self.group_seen = 0;
        }
        match &mut self.current {
            Some(current) if current.seen == seen => {
                current.count = current.count.saturating_add(1);
            }
            _ => {
                if self.finish() {
                    return Found::Passed;
                }
                if let Some(run) = self.current.replace(Run { seen, count: 1 }) {
                    self.history.push_back(run);
                    if self.history.len() > self.pattern.len() {
                        self.history.pop_front();
                        self.has_first = false;
                    }
                }
            }
        }
        match (self.current, self.pattern.split_last()) {
            (Some(current), Some((last, before)))
                // Whole lines need no count: where times have whole seconds, hundreds of lines share one, and an
                // answer may begin among them.
                if current == *last
                    && (ends_line || self.group_count == self.group_seen)
                    && self.matches_before(before) =>
            {
                Found::Last
            }
            _ => Found::Not,
        }
    }

    /// Whether the sequence began within the last run of the pattern, and the run ends here.
    fn finish(&mut self) -> bool {
        if self.is_within {
            return true;
        }
        let is_first = self.has_first && self.history.is_empty();
        match (self.current, self.pattern.last()) {
            (Some(current), Some(last)) => {
                is_first && current.seen == last.seen && current.count < last.count
            }
            (None, Some(_)) => false,
            (_, None) => true,
        }
    }

    fn matches_before(&self, before: &[Run]) -> bool {
        let pairs = self.history.iter().enumerate().rev().zip(before.iter().enumerate().rev());
        for ((at, run), (pattern_at, wanted)) in pairs {
            // The sequence may begin within a run, and the pattern may too: it is bounded.
            let is_cut = (at == 0 && self.has_first && run.count < wanted.count)
                || (pattern_at == 0 && run.count > wanted.count);
            if run.seen != wanted.seen || (run.count != wanted.count && !is_cut) {
                return false;
            }
        }
        true
    }
}
