//! What a configuration file and the command line say about a resident run (pure).

use std::collections::BTreeSet;
use std::time::Duration;

use chores_common::settings::{Fault, Item, Kind, Table, parse as parse_toml};
use jiff::tz::TimeZone;

use super::job::{Dump, Job, Quiesce, What};
use crate::notify::Channels;
use crate::retain::Retain;
use crate::schedule::{self, Cron};
use crate::snapshot::DumpKind;

#[cfg(test)]
mod tests;

/// How far runs of one time are spread.
const JITTER: Duration = Duration::from_secs(5 * 60);

/// How long after a start what was missed waits.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Runs at once.
const CONCURRENCY: u64 = 2;
const CONCURRENCY_MAX: u64 = 64;

/// How long a run may take.
const TIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// How long after its time a good run may be missing.
const OVERDUE_AFTER: Duration = Duration::from_secs(2 * 60 * 60);

/// Longest time that may be said for any of them.
const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Jobs of one configuration.
const JOBS_MAX: usize = 1000;

/// Longest name of a job, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Databases that `dump` may name.
const KINDS: [DumpKind; 5] =
    [DumpKind::Mysql, DumpKind::Postgres, DumpKind::Redis, DumpKind::Mongo, DumpKind::Sqlite];

/// What was said on the command line: it comes before what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `--schedule`.
    pub schedule: Option<Cron>,
    /// `--time-zone`.
    pub zone: Option<TimeZone>,
    /// `--jitter`.
    pub jitter: Option<Duration>,
    /// `--concurrency`.
    pub concurrency: Option<usize>,
    /// `--containers-with`.
    pub scope: Option<String>,
}

/// What jobs have that do not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// When they run.
    pub schedule: Cron,
    /// What is kept.
    pub retain: Option<Retain>,
    /// How long a run may take, in seconds.
    pub time_max_seconds: u64,
    /// How long after its time a good run may be missing, in seconds.
    pub overdue_after_seconds: u64,
    /// The label, `KEY` or `KEY=VALUE`, without which a container is none of ours.
    pub scope: Option<String>,
}

/// All that is said.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// For all jobs.
    pub defaults: Defaults,
    /// Where the hours of all schedules mean something.
    pub zone: TimeZone,
    /// How far runs of one time are spread.
    pub jitter_max: Duration,
    /// How long after a start what was missed waits.
    pub catch_up: Duration,
    /// Runs at once.
    pub concurrency: usize,
    /// Whether containers are jobs by their labels.
    pub containers: bool,
    /// When the repository is checked, and how many hundredths of its content are read.
    pub check: Option<(Cron, Option<u64>)>,
    /// When the repository is pruned, and after which grace.
    pub prune: Option<(Cron, Option<String>)>,
    /// Where notices go.
    pub channels: Channels,
    /// The jobs of the file.
    pub jobs: Vec<Job>,
}

/// Reads the text of a configuration file; an empty one is none.
pub fn parse(text: &str, typed: &Typed) -> Result<ServeSettings, Vec<Fault>> {
    parse_toml(text, |table| root(table, typed))
}

fn root(table: &Table<'_>, typed: &Typed) -> ServeSettings {
    let cron = |item: Item<'_>| item.text("a schedule such as \"30 3 * * *\"", str::parse::<Cron>);
    let schedule = table.get("schedule").and_then(cron);
    let schedule = typed.schedule.clone().or(schedule);
    let scope = table.get("containers_with").and_then(|item| item.string());
    let defaults = Defaults {
        schedule: schedule.unwrap_or_else(Cron::nightly),
        retain: table.get("retain").and_then(|item| retain(&item)),
        time_max_seconds: seconds(table, "time_max").unwrap_or(TIME_MAX.as_secs()),
        overdue_after_seconds: seconds(table, "overdue_after").unwrap_or(OVERDUE_AFTER.as_secs()),
        scope: typed.scope.clone().or(scope),
    };
    let zone = table.get("time_zone").and_then(|item| item.text("a time zone", schedule::zone));
    let jitter = table.get("jitter").and_then(|item| span(&item));
    let catch_up = table.get("catch_up_delay").and_then(|item| span(&item));
    let concurrency = table.get("concurrency").and_then(|item| item.integer(1..=CONCURRENCY_MAX));
    let concurrency = concurrency.unwrap_or(CONCURRENCY);
    let containers = table.get("containers").and_then(|item| item.boolean()).unwrap_or(true);
    let check = table.get("check").and_then(cron);
    let share = table.get("check_read_data").and_then(|item| item.integer(1..=100));
    let prune = table.get("prune").and_then(cron);
    let grace =
        table.get("prune_grace").and_then(|item| item.duration().and_then(|_| item.string()));
    let mut names = BTreeSet::new();
    let mut jobs = Vec::new();
    if let Some(item) = table.get("job") {
        for table in item.tables() {
            let Some(job) = job(&table, &defaults) else { continue };
            if jobs.len() == JOBS_MAX {
                table.missing("name", &format!("there are more than {JOBS_MAX} jobs"));
                break;
            }
            if names.insert(job.name.clone()) {
                jobs.push(job);
            } else {
                table.missing("name", &format!("two jobs are called {}", job.name));
            }
        }
    }
    let channels = Channels::read(table);
    table.end();
    ServeSettings {
        defaults,
        zone: typed.zone.clone().or(zone).unwrap_or(TimeZone::UTC),
        jitter_max: typed.jitter.or(jitter).unwrap_or(JITTER),
        catch_up: catch_up.unwrap_or(CATCH_UP),
        concurrency: typed.concurrency.unwrap_or(usize::try_from(concurrency).unwrap_or(1)),
        containers,
        check: check.map(|check| (check, share)),
        prune: prune.map(|prune| (prune, grace)),
        channels,
        jobs,
    }
}

fn job(table: &Table<'_>, defaults: &Defaults) -> Option<Job> {
    let cron = |item: Item<'_>| item.text("a schedule such as \"30 3 * * *\"", str::parse::<Cron>);
    let name = table.get("name");
    if name.is_none() {
        table.missing("name", "a job needs a name, under which its snapshots are found");
    }
    let name = name.and_then(|item| item.text("a text", plain_name));
    let strings =
        |name: &'static str| table.get(name).map(|item| item.strings()).unwrap_or_default();
    let container = table.get("container").and_then(|item| item.string());
    let volumes = strings("volumes");
    let paths = table.get("paths").map(|item| absolute(&item)).unwrap_or_default();
    let dump_item = table.get("dump");
    let dump =
        dump_item.as_ref().and_then(|item| item.text("a container, or CONTAINER=KIND", dump));
    let command = strings("command");
    let still = Quiesce {
        pause: strings("pause"),
        stop: strings("stop"),
        pre: table.get("pre").map(|item| hooks(&item)).unwrap_or_default(),
        post: table.get("post").map(|item| hooks(&item)).unwrap_or_default(),
        max_pause: table
            .get("max_pause")
            .and_then(|item| item.duration().and_then(|_| item.string())),
    };
    let exclude = strings("exclude");
    let schedule = table.get("schedule").and_then(cron);
    let retain = table.get("retain").and_then(|item| retain(&item));
    let drill = table.get("drill").and_then(cron);
    let time_max = seconds(table, "time_max");
    let overdue_after = seconds(table, "overdue_after");
    table.end();
    let given = [container.is_some(), !volumes.is_empty(), !paths.is_empty()]
        .map(usize::from)
        .iter()
        .sum::<usize>();
    let what = match (container, dump) {
        _ if given > 1 => {
            table.missing("name", "a job saves a container, volumes or paths: give one of them");
            return None;
        }
        (Some(name), dump) => What::Container { name, dump },
        (None, dump) if !volumes.is_empty() => What::Volumes { names: volumes, dump },
        (None, None) if !paths.is_empty() => What::Paths { paths },
        (None, Some(_)) if !paths.is_empty() => {
            table.missing("dump", "paths and a dump do not fit in one job: make it two");
            return None;
        }
        (None, Some(dump)) => What::Dump { dump, command: command.clone() },
        (None, None) => {
            // A dump that is wrong was told.
            if dump_item.is_none() {
                table.missing("paths", "nothing is saved: give container, volumes, paths or dump");
            }
            return None;
        }
    };
    let is_dump = matches!(what, What::Dump { .. });
    if !command.is_empty() && !is_dump {
        table.missing("command", "a command gives a dump that is a job of its own");
        return None;
    }
    if is_dump && !(still.is_empty() && exclude.is_empty()) {
        table.missing(
            "dump",
            "a dump by itself has no pause, stop, pre, post, max_pause or exclude",
        );
        return None;
    }
    Some(Job {
        name: name?,
        by: None,
        what,
        still,
        exclude,
        schedule: schedule.unwrap_or_else(|| defaults.schedule.clone()),
        retain: retain.or_else(|| defaults.retain.clone()),
        drill,
        time_max_seconds: time_max.unwrap_or(defaults.time_max_seconds),
        overdue_after_seconds: overdue_after.unwrap_or(defaults.overdue_after_seconds),
    })
}

fn plain_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("give 1 to {NAME_BYTES_MAX} bytes without control characters"));
    }
    Ok(text.to_owned())
}

/// Rules as one text, or as a table of them.
fn retain(item: &Item<'_>) -> Option<Retain> {
    if item.kind() != Kind::Table {
        return item.text("rules such as \"daily=7\", or a table of them", str::parse);
    }
    let table = item.table()?;
    let rules: Vec<_> = table
        .items()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.scalar()?)))
        .collect();
    match rules.join(",").parse() {
        Ok(retain) => Some(retain),
        Err(error) => {
            item.fault(&error.to_string());
            None
        }
    }
}

fn absolute(item: &Item<'_>) -> Vec<String> {
    let path = |text: &str| {
        if text.starts_with('/') { Ok(text.to_owned()) } else { Err("give an absolute path") }
    };
    item.items().iter().filter_map(|item| item.text("an absolute path", path)).collect()
}

/// `CONTAINER=CMD`, as on the command line.
fn hooks(item: &Item<'_>) -> Vec<(String, String)> {
    let hook = |text: &str| match text.split_once('=') {
        Some((container, command)) if !container.is_empty() && !command.is_empty() => {
            Ok((container.to_owned(), command.to_owned()))
        }
        _ => Err("give CONTAINER=CMD"),
    };
    item.items().iter().filter_map(|item| item.text("CONTAINER=CMD", hook)).collect()
}

/// `CONTAINER` or `CONTAINER=KIND`.
fn dump(text: &str) -> Result<Dump, String> {
    let (container, kind) = match text.split_once('=') {
        None | Some((_, "auto")) => (text.strip_suffix("=auto").unwrap_or(text), None),
        Some((container, kind)) => {
            let known = KINDS.into_iter().find(|known| known.to_string() == kind);
            let known = known.ok_or_else(|| {
                format!("{kind:?} is none of auto, mysql, postgres, redis, mongo and sqlite")
            })?;
            (container, Some(known))
        }
    };
    if container.is_empty() {
        return Err("name a container".to_owned());
    }
    Ok(Dump { container: container.to_owned(), kind })
}

fn seconds(table: &Table<'_>, name: &'static str) -> Option<u64> {
    let time = table.get(name).and_then(|item| span(&item).map(|time| (item, time)));
    let (item, time) = time?;
    if time < Duration::from_secs(1) {
        item.fault("give at least 1s");
        return None;
    }
    Some(time.as_secs())
}

fn span(item: &Item<'_>) -> Option<Duration> {
    let time = item.duration()?;
    if time > SPAN_MAX {
        item.fault("give at most 366d");
        return None;
    }
    Some(time)
}
