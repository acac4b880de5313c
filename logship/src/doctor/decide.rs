//! What findings mean: from values to verdicts.

use std::path::Path;

use chores_common::engine::{Container, LogConfig};
use chores_common::finding::{Finding, Status};

use crate::followed::Way;
use crate::quantity;

/// Lines a second that the API of Docker 20.10 gave a follower without pauses; with pauses it was up to 240,000.
const API_LINES_PER_SECOND: u64 = 144_000;

/// Bytes that a line of 100 bytes takes in a `json-file`.
const LINE_BYTES: u64 = 170;

/// Seconds of a log at the speed of the API below which a pause of the shipper loses lines.
const RETENTION_SECONDS_MIN: u64 = 10;

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

/// One container. `way`: how its log would be read.
pub(super) fn container(container: &Container, way: Way, directory: Option<&Path>) -> Finding {
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
                Some(Retention { size: None, .. }) => unlimited(name, &found),
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
            let mount = mount(container, directory);
            match (retention, seconds) {
                (None, _) => Finding::ok(name, found),
                (Some(Retention { size: None, .. }), _) => unlimited(name, &found),
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

fn unlimited(name: String, found: &str) -> Finding {
    let found = format!("{found}: its log grows until the disk is full");
    Finding::new(name, Status::Warn, found, "give it --log-opt max-size=10m --log-opt max-file=3")
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
