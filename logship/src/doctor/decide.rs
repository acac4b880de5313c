//! What findings mean: from values to verdicts.

use std::path::Path;

use chores_common::engine::{Container, LogConfig};
use chores_common::finding::{Finding, Status};

use crate::followed::Way;
use crate::quantity;
use crate::rotate::decide::Held;

/// Lines a second that the API of Docker 20.10 gave a follower without pauses; with pauses it was up to 240,000.
const API_LINES_PER_SECOND: u64 = 144_000;

/// Bytes that a line of 100 bytes takes in a `json-file`.
const LINE_BYTES: u64 = 170;

/// Seconds of a log at the speed of the API below which a pause of the shipper loses lines.
const RETENTION_SECONDS_MIN: u64 = 10;

const DAY_SECONDS: u64 = 86_400;

/// A log must have been written for so long before its growth says anything.
const GROWTH_SECONDS_MIN: u64 = 60;

/// What a service needs in a Compose file, in one line of YAML.
const COMPOSE_LOGGING: &str =
    r#"logging: {driver: json-file, options: {max-size: "10m", max-file: "3"}}"#;

/// What an engine needs in its own configuration.
const DAEMON_JSON: &str =
    r#"{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}"#;

/// What the engine keeps of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    /// Bytes of one file; `None`: without limit.
    pub(super) size: Option<u64>,
    /// Files.
    pub(super) files: u64,
}

impl Retention {
    /// From the options of the driver, and its defaults: `json-file` has no limit, `local` has 20m and 5 files.
    pub(super) fn of(log: &LogConfig) -> Option<Self> {
        let (size, files) = match log.driver.as_str() {
            "json-file" => (None, 1),
            "local" => (Some(20 << 20), 5),
            _ => return None,
        };
        // The engine counts `k`, `m` and `g` in powers of 1024.
        let given = log.options.get("max-size").filter(|size| size.as_str() != "-1");
        let given = given.and_then(|size| quantity::size(&binary(size)).ok());
        let given_files = log.options.get("max-file").and_then(|files| files.parse().ok());
        Some(Self { size: given.or(size), files: given_files.unwrap_or(files).max(1) })
    }

    /// Bytes in all.
    fn bytes(self) -> Option<u64> {
        self.size.map(|size| size.saturating_mul(self.files))
    }

    fn text(self) -> String {
        match self.size {
            Some(size) => format!("keeps {} × {}", self.files, shown(size)),
            None => "keeps everything".to_owned(),
        }
    }
}

fn binary(size: &str) -> String {
    let size = size.trim().to_ascii_lowercase();
    let number = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match size.get(number.len()..).and_then(|unit| unit.chars().next()) {
        Some(unit @ ('k' | 'm' | 'g' | 't')) => format!("{number}{unit}ib"),
        _ => number.to_owned(),
    }
}

/// `10 MiB`, as the engine counts.
pub(super) fn shown(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// One container. `way`: how its log would be read; `growth`: how its log grows, where that can be seen.
pub(super) fn container(
    container: &Container,
    way: Way,
    directory: Option<&Path>,
    growth: Option<Growth>,
) -> Finding {
    let name = format!("container {}", container.name);
    let log = &container.log;
    let driver = if log.driver.is_empty() { "unknown" } else { log.driver.as_str() };
    if driver == "none" {
        let found = "driver none: the engine keeps nothing of its log";
        return Finding::new(name, Status::Warn, found, "give it --log-driver local");
    }
    let retention = Retention::of(log);
    let kept = retention.map_or_else(|| "keeps what its driver keeps".to_owned(), Retention::text);
    match way {
        Way::Direct => {
            let found = format!("direct, driver {driver}, {kept}");
            match retention {
                Some(Retention { size: None, .. }) => unlimited(name, &found, growth),
                Some(Retention { files: 1, .. }) => Finding::new(
                    name,
                    Status::Warn,
                    format!("{found}: the engine cuts the only file with whatever is unread in it"),
                    "give it --log-opt max-file=3",
                ),
                _ => Finding::ok(name, found),
            }
        }
        Way::Api => {
            let seconds = retention
                .and_then(Retention::bytes)
                .map(|bytes| bytes / (LINE_BYTES * API_LINES_PER_SECOND));
            let found = format!("API, driver {driver}, {kept}");
            let found = match growth.and_then(Growth::lines_per_second) {
                Some(lines) if lines > API_LINES_PER_SECOND / 2 => format!(
                    "{found}, has written {lines} lines a second on average: peaks are beyond what the API gives"
                ),
                _ => found,
            };
            let mount = mount(container, directory);
            match (retention, seconds) {
                (None, _) => Finding::ok(name, found),
                (Some(Retention { size: None, .. }), _) => unlimited(name, &found, growth),
                (Some(_), Some(seconds)) if seconds < RETENTION_SECONDS_MIN => Finding::new(
                    name,
                    Status::Warn,
                    format!(
                        "{found}: {seconds} s of writing at {API_LINES_PER_SECOND} lines a second, the \
                         most that the API gives; a faster writer loses lines, a slower one does when the \
                         shipper pauses for longer (each loss is told by a gap record)"
                    ),
                    mount,
                ),
                _ => Finding::new(name, Status::Note, found, mount),
            }
        }
    }
}

/// A log without a limit, and when the disk is full at its speed so far.
fn unlimited(name: String, found: &str, growth: Option<Growth>) -> Finding {
    let when = growth.and_then(Growth::text).map(|text| format!(", {text}")).unwrap_or_default();
    let found = format!("{found}: its log grows until the disk is full{when}");
    let advice = format!(
        "give it --log-opt max-size=10m --log-opt max-file=3; in Compose, below the service: {COMPOSE_LOGGING}; a \
         container that exists keeps what it has until it is made anew"
    );
    Finding::new(name, Status::Warn, found, advice)
}

/// How a log has grown so far, and what is left of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Growth {
    /// Bytes that the engine has of it.
    pub(super) bytes: u64,
    /// Seconds in which it wrote them.
    pub(super) seconds: u64,
    /// Bytes that are free on the disk.
    pub(super) free: u64,
}

impl Growth {
    /// Seconds until the disk is full when it goes on like that and nobody else writes; `None` when that is in more
    /// than ten years, or too little is known.
    fn seconds_left(self) -> Option<u64> {
        if self.seconds < GROWTH_SECONDS_MIN || self.bytes == 0 {
            return None;
        }
        let left = u128::from(self.free) * u128::from(self.seconds) / u128::from(self.bytes);
        u64::try_from(left).ok().filter(|left| *left < 10 * 365 * DAY_SECONDS)
    }

    /// How much it writes, in lines of 100 bytes.
    fn lines_per_second(self) -> Option<u64> {
        (self.seconds >= GROWTH_SECONDS_MIN).then(|| self.bytes / LINE_BYTES / self.seconds)
    }

    fn text(self) -> Option<String> {
        let left = self.seconds_left()?;
        let a_day = u128::from(self.bytes) * u128::from(DAY_SECONDS) / u128::from(self.seconds);
        let a_day = shown(u64::try_from(a_day).unwrap_or(u64::MAX));
        let free = shown(self.free);
        let when = match (left / DAY_SECONDS, left / 3600) {
            (2.., _) => format!("{} days", left / DAY_SECONDS),
            (_, 2..) => format!("{} hours", left / 3600),
            _ => format!("{} minutes", left / 60),
        };
        Some(format!("at {a_day} a day as so far in {when}, with {free} free"))
    }
}

/// The limit for every container to come, when `unlimited` of those that are have none.
pub(super) fn engine_logs(unlimited: usize) -> Option<Finding> {
    (unlimited > 0).then(|| {
        Finding::new(
            "engine logs",
            Status::Note,
            format!("{unlimited} containers have logs without a limit"),
            format!(
                "for all that are made from now on, put {DAEMON_JSON} into /etc/docker/daemon.json and restart the \
                 engine"
            ),
        )
    })
}

/// Whether a container's log is kept by the engine without a limit.
pub(super) fn is_unlimited(container: &Container) -> bool {
    matches!(Retention::of(&container.log), Some(Retention { size: None, .. }))
}

/// How to let the files of a container be seen.
fn mount(container: &Container, directory: Option<&Path>) -> String {
    let own = container.log.path.as_deref().and_then(Path::parent).and_then(Path::parent);
    let engine = own.unwrap_or(Path::new(crate::direct::CONTAINERS_DIRECTORY)).display();
    match directory {
        Some(directory) => format!(
            "its files are not in {}: mount the engine's {engine} there, read-only",
            directory.display()
        ),
        None => format!(
            "let its files be read: -v {engine}:{engine}:ro, in Compose `- {engine}:{engine}:ro`; not in the \
             usual place, add --engine-files {engine}"
        ),
    }
}

/// The directory of containers. `listed`: containers in it, or why it cannot be read.
pub(super) fn files(directory: Option<&Path>, listed: &Result<usize, String>) -> Finding {
    let usual = crate::direct::CONTAINERS_DIRECTORY;
    match (directory, listed) {
        (None, _) => Finding::new(
            "files",
            Status::Note,
            format!("{usual} is not here: every container is read by the API"),
            format!("mount it: -v {usual}:{usual}:ro, in Compose `- {usual}:{usual}:ro`"),
        ),
        (Some(directory), Ok(count)) => {
            Finding::ok("files", format!("{} has {count} containers", directory.display()))
        }
        (Some(directory), Err(error)) => Finding::new(
            "files",
            Status::Warn,
            format!("{} cannot be read: {error}", directory.display()),
            "run as root, or with --cap-add DAC_READ_SEARCH; the files are the engine's own, mode 0640",
        ),
    }
}

/// A pattern of log files that matches none.
pub(super) fn unmatched(pattern: &str) -> Finding {
    Finding::new(
        format!("files {pattern}"),
        Status::Warn,
        "no file matches it",
        "write the path as this process sees it, and in a container mount the volume there; if the files are still to \
         come, `run` reads them when they do",
    )
}

/// A directory whose files are to be rotated.
pub(super) fn rotation(directory: &Path, is_read_only: bool, held: Held) -> Finding {
    let name = format!("rotation {}", directory.display());
    if is_read_only {
        return Finding::new(
            name,
            Status::Warn,
            "it is mounted read-only: its files are shipped, and not rotated",
            "mount it writable, without :ro",
        );
    }
    if held == Held::Unknown {
        return Finding::new(
            name,
            Status::Warn,
            "whether a rotated file still has writers cannot be proved: one that was silent for 60 s is taken for ended",
            "give --cap-add LEASE, or run as the owner of the files; network file systems have no leases",
        );
    }
    Finding::ok(name, "its files can be rotated, and their end proved")
}

/// No directory was named.
pub(super) fn no_state() -> Finding {
    Finding::new(
        "state",
        Status::Warn,
        "no state directory is named: after a restart nobody knows what was shipped",
        "give --state DIR, in a container on a volume: -v logship:/state --state /state",
    )
}

/// The state directory. `free` bytes for everybody but root.
pub(super) fn state(directory: &Path, free: u64, wal_bytes_max: u64) -> Finding {
    let found = format!("{} can be written, {} free", directory.display(), shown(free));
    if free < wal_bytes_max {
        let limit = shown(wal_bytes_max);
        return Finding::new(
            "state",
            Status::Warn,
            format!("{found}, but the log may take {limit}"),
            "make room, or lower --wal-max",
        );
    }
    Finding::ok("state", found)
}
