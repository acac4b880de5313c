//! Which snapshots stay, and why: a function of values alone.
//!
//! Only proved snapshots count. The newest proved one of a source stays whatever the rules say, and a source whose
//! last backup has lost much, or is unlike those before, loses nothing more until a person has looked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::machine::Boot;
use crate::snapshot::{Snapshot, SnapshotId, State};

#[cfg(test)]
mod tests;

/// How long what counts for nothing is kept beside proved snapshots, for inspection.
pub const UNCOUNTED_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far ahead of this machine's clock a snapshot may be before one of the two clocks is taken to be wrong.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const HOUR_SECONDS: i64 = 60 * 60;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;
const WEEK_DAYS: i64 = 7;
/// The first Monday of the epoch, in days: 1970-01-05.
const FIRST_MONDAY: i64 = 4;
const YEAR_MONTHS: i64 = 12;

/// What a snapshot is worth to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A backup: the only one that counts.
    Proved,
    /// So much was gone, or unlike what was before, that a person should look.
    Suspicious,
    /// Packs that it needs are not there, or were marked for removal before it was committed.
    Incomplete,
    /// It has a dump of which nothing proves that it is whole.
    Unproved,
    /// Never a backup.
    Failed,
}

impl Standing {
    /// That of a snapshot all of whose packs are there and not marked.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let is_proved =
            snapshot.dumps.iter().all(|dump| dump.proof.marker || dump.proof.trailer.is_some());
        match snapshot.state {
            State::Failed => Self::Failed,
            State::Complete | State::Warnings if !is_proved => Self::Unproved,
            State::Complete | State::Warnings if snapshot.suspicious => Self::Suspicious,
            State::Complete | State::Warnings => Self::Proved,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Proved => "proved",
            Self::Suspicious => "suspicious",
            Self::Incomplete => "incomplete",
            Self::Unproved => "unproved",
            Self::Failed => "failed",
        })
    }
}

/// A snapshot as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which it is.
    pub id: SnapshotId,
    /// What it is called: the source, see [`GroupBy`].
    pub name: String,
    /// Name of the machine or container that made it.
    pub host: String,
    /// Start of its run.
    pub time: Timestamp,
    /// What it is worth.
    pub standing: Standing,
    /// It is compared with its like alone: it says nothing of the files that a suspicious one has lost.
    pub is_of_dumps_only: bool,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
}

/// Which snapshots are of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// Those of one name, unless machines take turns in making them: nobody has said then what they are.
    #[default]
    Unsaid,
    /// Those of one name.
    Name,
    /// Those of one name and host.
    Host,
}

/// The rules. A number of 0 is no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of the last so many hours that have one.
    pub hourly: u32,
    /// The same with days in UTC.
    pub daily: u32,
    /// The same with weeks from Monday on.
    pub weekly: u32,
    /// The same with months.
    pub monthly: u32,
    /// The same with years.
    pub yearly: u32,
    /// All that are not older than this, counted back from the newest.
    pub within: Option<Duration>,
    /// All with one of these labels, counted or not.
    pub tags: Vec<(String, String)>,
    /// What a source is.
    pub group_by: GroupBy,
    /// The boot of this machine: what was made elsewhere meanwhile freezes its source.
    pub boot: Option<Boot>,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The newest proved one of its source.
    Newest,
    /// Among the last ones.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// Young enough.
    Within,
    /// It has a label that is kept.
    Tag,
    /// It counts for nothing, and no proved one is newer.
    Unfollowed,
    /// It counts for nothing, and is kept for inspection for [`UNCOUNTED_KEPT`].
    Inspection,
    /// Its source is frozen.
    Frozen,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Newest => "newest",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
            Self::Tag => "tag",
            Self::Unfollowed => "no newer proved",
            Self::Inspection => "inspection",
            Self::Frozen => "frozen",
        })
    }
}

/// Why nothing of a source is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// This one, the newest, has lost much, or is unlike those before.
    Suspicious(SnapshotId),
    /// This one is from the future: one of the clocks is wrong, and with it every age.
    Future(SnapshotId),
    /// These two hosts take turns: it may be two sources of one name.
    Hosts(String, String),
    /// This one is of another machine, which has the name of this one and whose engine calls itself the same.
    Machines(SnapshotId),
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspicious(id) => write!(
                f,
                "the newest snapshot {short} is suspicious: look what its warnings say; if that is meant to be, make one with \
                 `--allow-change`, if not, repair the source or drop {short} with `backup forget {short}`",
                short = id.short()
            ),
            Self::Future(id) => write!(
                f,
                "snapshot {short} is from the future: set the clocks right, or drop it with \
                 `backup forget --even-newest {short}`",
                short = id.short()
            ),
            Self::Hosts(one, other) => write!(
                f,
                "the hosts {one:?} and {other:?} take turns in making them: say `--group-by host` to keep the rules for \
                 each of them, or `--group-by name` if they are one source"
            ),
            Self::Machines(id) => write!(
                f,
                "snapshot {short} was made by another machine while this one was up, under the same name: give each a host \
                 name of its own with `--host`",
                short = id.short()
            ),
        }
    }
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its place among the candidates.
    pub candidate: usize,
    /// Why it stays; nothing: it goes.
    pub reasons: BTreeSet<Reason>,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What becomes of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceVerdict {
    /// Its name.
    pub name: String,
    /// Its host, where hosts tell sources apart.
    pub host: Option<String>,
    /// Why nothing of it is dropped, whatever the rules say.
    pub frozen: Option<Freeze>,
    /// The newest first.
    pub verdicts: Vec<Verdict>,
}

/// Decides by rules. `now` is this machine's clock, which is only used to notice that a clock is wrong: ages are
/// counted from the newest proved snapshot, so that a source that is no longer saved loses nothing more.
#[must_use]
pub fn decide(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<SourceVerdict> {
    let groups = groups(candidates, policy.group_by);
    groups
        .into_iter()
        .map(|((name, host), members)| {
            let frozen = freeze(candidates, &members, policy, now);
            let verdicts = verdicts(candidates, &members, policy, frozen.is_some());
            SourceVerdict { name: name.to_owned(), host: host.map(str::to_owned), frozen, verdicts }
        })
        .collect()
}

/// The newest proved ones of all sources: what is never dropped by rules.
#[must_use]
pub fn newest_proved(candidates: &[Candidate], group_by: GroupBy) -> BTreeSet<SnapshotId> {
    let newest = groups(candidates, group_by).into_values().filter_map(|members| {
        let mut members = members.into_iter().filter_map(|number| candidates.get(number));
        members.find(|candidate| candidate.standing == Standing::Proved)
    });
    newest.map(|candidate| candidate.id).collect()
}

type Group<'a> = (&'a str, Option<&'a str>);

/// The members of each source, the newest first.
fn groups(candidates: &[Candidate], group_by: GroupBy) -> BTreeMap<Group<'_>, Vec<usize>> {
    let mut order: Vec<_> = candidates.iter().enumerate().collect();
    order.sort_by_key(|(_, candidate)| std::cmp::Reverse((candidate.time, candidate.id)));
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (number, candidate) in order {
        let host = match group_by {
            GroupBy::Unsaid | GroupBy::Name => None,
            GroupBy::Host => Some(candidate.host.as_str()),
        };
        groups.entry((candidate.name.as_str(), host)).or_default().push(number);
    }
    groups
}

fn freeze(
    candidates: &[Candidate],
    members: &[usize],
    policy: &Policy,
    now: Timestamp,
) -> Option<Freeze> {
    let members = || members.iter().filter_map(|number| candidates.get(*number));
    let newest = members()
        .find(|member| matches!(member.standing, Standing::Proved | Standing::Suspicious))?;
    if seconds(newest.time) - seconds(now) > duration_seconds(AHEAD_MAX) {
        return Some(Freeze::Future(newest.id));
    }
    let is_elsewhere = |member: &&Candidate| {
        let boot = policy.boot.as_ref();
        boot.is_some_and(|boot| boot.is_elsewhere(member.time, &member.tags, now))
    };
    if let Some(member) = members().find(is_elsewhere) {
        return Some(Freeze::Machines(member.id));
    }
    for is_of_dumps_only in [false, true] {
        let compared = members().find(|member| {
            member.is_of_dumps_only == is_of_dumps_only
                && matches!(member.standing, Standing::Proved | Standing::Suspicious)
        });
        if let Some(doubtful) = compared.filter(|member| member.standing == Standing::Suspicious) {
            return Some(Freeze::Suspicious(doubtful.id));
        }
    }
    if policy.group_by != GroupBy::Unsaid {
        return None;
    }
    // A throw-away container has another name every night; one that comes back is a machine's.
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut current: Option<&str> = None;
    for member in members() {
        let host = member.host.as_str();
        match current {
            Some(before) if before == host => {}
            Some(before) if gone.contains(host) => {
                return Some(Freeze::Hosts(host.to_owned(), before.to_owned()));
            }
            before => {
                gone.extend(before);
                current = Some(host);
            }
        }
    }
    None
}

fn verdicts(
    candidates: &[Candidate],
    members: &[usize],
    policy: &Policy,
    is_frozen: bool,
) -> Vec<Verdict> {
    let of = |number: &usize| candidates.get(*number).map(|candidate| (*number, candidate));
    let mut reasons: BTreeMap<usize, BTreeSet<Reason>> = BTreeMap::new();
    let proved: Vec<_> = members
        .iter()
        .filter_map(of)
        .filter(|(_, member)| member.standing == Standing::Proved)
        .collect();
    let newest = proved.first().map(|(_, newest)| newest.time);
    let mut keep = |number: usize, reason: Reason| {
        reasons.entry(number).or_default().insert(reason);
    };
    if let Some((number, _)) = proved.first() {
        keep(*number, Reason::Newest);
    }
    for (reason, count, period) in policy.rules() {
        let mut left = count;
        let mut last = None;
        for (number, member) in &proved {
            let current = period(*number, member.time);
            if left == 0 {
                break;
            }
            if last != Some(current) {
                keep(*number, reason);
                last = Some(current);
                left -= 1;
            }
        }
    }
    for (number, member) in members.iter().filter_map(of) {
        let age = newest.map(|newest| seconds(newest) - seconds(member.time));
        let is_within = |limit: Duration| age.is_some_and(|age| age <= duration_seconds(limit));
        if member.standing == Standing::Proved {
            if policy.within.is_some_and(is_within) {
                keep(number, Reason::Within);
            }
        } else if age.is_none_or(|age| age <= 0) {
            keep(number, Reason::Unfollowed);
        } else if is_within(UNCOUNTED_KEPT) {
            keep(number, Reason::Inspection);
        }
        if policy.tags.iter().any(|(key, value)| member.tags.get(key) == Some(value)) {
            keep(number, Reason::Tag);
        }
        if is_frozen {
            keep(number, Reason::Frozen);
        }
    }
    members
        .iter()
        .map(|number| Verdict {
            candidate: *number,
            reasons: reasons.remove(number).unwrap_or_default(),
        })
        .collect()
}

/// In which period a snapshot is: that with this number, made at this time.
type Period = fn(usize, Timestamp) -> i64;

impl Policy {
    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.within.is_none()
            && self.tags.is_empty()
            && self.rules().iter().all(|(_, count, _)| *count == 0)
    }

    fn rules(&self) -> [(Reason, u32, Period); 6] {
        [
            (Reason::Last, self.last, |number, _| i64::try_from(number).unwrap_or(i64::MAX)),
            (Reason::Hourly, self.hourly, |_, time| seconds(time).div_euclid(HOUR_SECONDS)),
            (Reason::Daily, self.daily, |_, time| day(time)),
            (Reason::Weekly, self.weekly, |_, time| {
                (day(time) - FIRST_MONDAY).div_euclid(WEEK_DAYS)
            }),
            (Reason::Monthly, self.monthly, |_, time| month(time)),
            (Reason::Yearly, self.yearly, |_, time| month(time).div_euclid(YEAR_MONTHS)),
        ]
    }
}

fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

fn duration_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn day(time: Timestamp) -> i64 {
    seconds(time).div_euclid(DAY_SECONDS)
}

/// Months since the year 0, in UTC.
fn month(time: Timestamp) -> i64 {
    let date = time.to_zoned(TimeZone::UTC).date();
    i64::from(date.year()) * YEAR_MONTHS + i64::from(date.month()) - 1
}
