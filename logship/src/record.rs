//! What a line of log is while it travels: its stream, its flags, and the records that tell of the
//! journey itself.

use serde::{Deserialize, Serialize};

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// A log file.
    File,
    /// Standard output of a container.
    Stdout,
    /// Standard error of a container.
    Stderr,
    /// The terminal of a container, which joins both.
    Console,
}

impl Stream {
    /// The name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Console => "console",
        }
    }
}

/// The flag byte of one record, as it is in the write-ahead log (`docs/logship-wal.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    const STREAM: u8 = 0b11;
    const PARTIAL: u8 = 1 << 2;
    const LATE: u8 = 1 << 3;
    const CONTROL: u8 = 1 << 4;

    /// A whole line of `stream`.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self(match stream {
            Stream::File => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::Console => 3,
        })
    }

    /// The same, of a line that goes on in the next record of its stream.
    #[must_use]
    pub fn partial(self, is_partial: bool) -> Self {
        if is_partial { Self(self.0 | Self::PARTIAL) } else { self }
    }

    /// The same, of a line that came after younger ones of its stream.
    #[must_use]
    pub fn late(self, is_late: bool) -> Self {
        if is_late { Self(self.0 | Self::LATE) } else { self }
    }

    /// The same, of a record whose line is the JSON of a [`Control`].
    #[must_use]
    pub fn control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }

    /// From the write-ahead log; `None` when a bit without meaning is set.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        let known = Self::STREAM | Self::PARTIAL | Self::LATE | Self::CONTROL;
        (byte & !known == 0).then_some(Self(byte))
    }

    /// For the write-ahead log.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// Where the line was written.
    #[must_use]
    pub fn stream(self) -> Stream {
        match self.0 & Self::STREAM {
            0 => Stream::File,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => Stream::Console,
        }
    }

    /// The line goes on in the next record of its stream.
    #[must_use]
    pub fn is_partial(self) -> bool {
        self.0 & Self::PARTIAL != 0
    }

    /// The line came after younger ones of its stream.
    #[must_use]
    pub fn is_late(self) -> bool {
        self.0 & Self::LATE != 0
    }

    /// The line is the JSON of a [`Control`].
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
}

/// One record of a block. Its number within its source is `first_seq` of the frame plus its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970-01-01T00:00:00Z: of the engine, or of the moment it was read.
    pub ts: i64,
    /// Stream and marks.
    pub flags: Flags,
    /// The line without its end, or the JSON of a [`Control`].
    pub line: &'a [u8],
}

/// What happened to a source beside its lines. Control records travel like lines, numbered with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Lines are missing here, or may be.
    Gap(Gap),
    /// The file was rotated: what follows is from the next file.
    Rotated {
        /// The file that ends here.
        path: String,
        /// Bytes that were taken from its beginning instead; it goes on under the same name.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        removed: Option<u64>,
    },
    /// The file became shorter than what was read of it.
    Truncated {
        /// The file.
        path: String,
        /// Bytes that had been read.
        read: u64,
        /// Its size after.
        size: u64,
    },
    /// The clock of the engine went back.
    ClockStep {
        /// The youngest time before the step, in nanoseconds since 1970.
        from: i64,
        /// The first time after it.
        to: i64,
    },
    /// Lines that are not serious enough were dropped, as the settings say: they are not missing.
    Filtered {
        /// Time of the oldest, in nanoseconds since 1970.
        from: i64,
        /// Time of the youngest.
        to: i64,
        /// Records.
        lines: u64,
        /// Bytes of them, line ends not counted.
        bytes: u64,
    },
    /// Reading began.
    Started,
    /// The container ended or the file is gone, and all of it was read.
    Stopped,
}

/// Why lines are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The engine or another program rotated them away before they were read.
    Rotated,
    /// A file was cut by another program before it was read to its end.
    Truncated,
    /// The container or file was removed before it was read to its end.
    Removed,
    /// The file at this place is another one than before, and the former is nowhere.
    Replaced,
    /// What the log holds there is not readable.
    Corrupt,
    /// The rate limit of the source dropped them.
    RateLimited,
    /// An optional sink fell behind its bound.
    SinkBound,
    /// The engine was not there for so long that nobody can tell.
    Unreachable,
    /// The peer of a sink refused them for good, and the settings let them go.
    Refused,
}

/// A hole in a source: everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Time of the last record before the hole, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<i64>,
    /// Time of the first record after it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<i64>,
    /// Byte of the file at which the hole begins, counted since the file was made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_byte: Option<u64>,
    /// Bytes missing, when they can be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// Lines missing, when they can be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lines: Option<u64>,
    /// Whether exactly what lies between `from` and `to` is missing. `false`: some of it may have arrived.
    pub exact: bool,
}

/// What happened to `control` in one line of JSON, as it stands in the record.
#[must_use]
pub fn control_line(control: &Control) -> Vec<u8> {
    // The type has string keys and no foreign code: it cannot fail to serialise.
    serde_json::to_vec(control).unwrap_or_default()
}
