//! One path of a snapshot: what the tree stores, what walk produces and restore writes.
//!
//! The JSON form is part of repository format 1 (`docs/backup-format.md`, "Tree"): one line per entry,
//! byte strings that are not UTF-8 in base64 twins (`path_b64`, …), times as decimal seconds, modes in
//! octal. Field order is fixed, so equal metadata gives equal bytes and deduplicates.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkId;

/// A byte string of the file system: a path or a link target. Unix allows any byte but NUL.
pub type PathBytes = Vec<u8>;

/// Seconds and nanoseconds since the epoch; `nanos` is always 0..1_000_000_000, so the instant
/// one nanosecond before 1970 is `{ seconds: -1, nanos: 999_999_999 }` (as in `struct timespec`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded towards minus infinity.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// What kind of thing a path is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory; its children follow it in the tree.
    Directory,
    /// A regular file and its content in file order.
    File(FileContent),
    /// A symbolic link and where it points, byte for byte.
    Symlink(PathBytes),
    /// A named pipe.
    Fifo,
    /// A Unix socket: recorded, never restored (its server makes a new one).
    Socket,
    /// A character device, `(major, minor)`.
    CharDevice(u32, u32),
    /// A block device, `(major, minor)`.
    BlockDevice(u32, u32),
}

/// The content of a regular file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileContent {
    /// Length in bytes, holes included.
    pub size: u64,
    /// What makes up the content, in file order; the lengths add up to `size`.
    pub extents: Vec<Extent>,
    /// The file changed while it was read: what is stored is a mixture of moments, or padded.
    pub torn: bool,
}

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The content of one chunk.
    Chunk(ChunkId),
    /// This many bytes that read as zero and were never stored (a hole, or padding after a shrink).
    Hole(u64),
}

/// An extended attribute; ACLs and file capabilities are extended attributes too
/// (`system.posix_acl_*`, `security.capability`; xattr(7)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xattr {
    /// Full name with its namespace prefix, such as `user.note`.
    pub name: Vec<u8>,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

/// One path of a snapshot with everything restore needs to make it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path without the leading `/`; empty for the root directory itself.
    pub path: PathBytes,
    /// Kind and content.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Numeric owner as seen from inside the container.
    pub uid: u32,
    /// Numeric group as seen from inside the container.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// For the second and later names of a file with several hard links inside the snapshot: the
    /// first of its names. Kind and metadata are repeated, so any subset can be restored alone.
    pub hardlink_of: Option<PathBytes>,
}

/// Longest line of a tree in bytes, newline included. A path of 300 components of 255 bytes in base64
/// and two 64 KiB attributes fit; what does not is refused when it is written, never cut.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How many content items one line carries at the most; the rest goes into `more` lines.
const ITEMS_PER_LINE_MAX: usize = 256;

/// A line ends after a chunk whose id starts with six zero bits: on average every 64 chunks, and at the
/// same chunks again after an insertion in the middle of a huge file, so the other lines deduplicate.
const LINE_CUT_MASK: u8 = 0b1111_1100;

/// Why a line is not an entry of a tree.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The line is not the JSON object that format 1 describes.
    #[error("a tree line is not an entry of repository format 1")]
    Json(#[source] serde_json::Error),
    /// The JSON is well formed, but a field contradicts the format.
    #[error("a tree line has an unusable field: {0}")]
    Field(&'static str),
    /// The line would exceed [`LINE_BYTES_MAX`].
    #[error("path and attributes together exceed {LINE_BYTES_MAX} bytes")]
    TooLong,
}

impl Entry {
    /// Appends the entry's lines, each ended by `\n`, to `out` and calls `line_ended` with the offset in
    /// `out` behind each line.
    pub fn write_lines(
        &self,
        out: &mut Vec<u8>,
        mut line_ended: impl FnMut(usize),
    ) -> Result<(), EntryError> {
        let start = out.len();
        let (size, torn, extents) = match &self.kind {
            Kind::File(content) => (Some(content.size), content.torn, content.extents.as_slice()),
            _ => (None, false, [].as_slice()),
        };
        let mut groups = ExtentGroups(extents);
        let (path, path_b64) = text_or_base64(&self.path);
        let (target, target_b64) = match &self.kind {
            Kind::Symlink(target) => text_or_base64(target),
            _ => (None, None),
        };
        let (hardlink_of, hardlink_of_b64) = match &self.hardlink_of {
            Some(first) => text_or_base64(first),
            None => (None, None),
        };
        let line = EntryLine {
            path: path.map(str::to_owned),
            path_b64,
            kind: self.kind.name(),
            mode: format!("{:04o}", self.mode),
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime.to_string(),
            xattrs: self.xattrs.iter().map(XattrLine::from).collect(),
            target: target.map(str::to_owned),
            target_b64,
            hardlink_of: hardlink_of.map(str::to_owned),
            hardlink_of_b64,
            device: match self.kind {
                Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                    Some((major, minor))
                }
                _ => None,
            },
            size,
            torn,
            data: groups.next().unwrap_or_default().iter().map(Item::from).collect(),
        };
        serde_json::to_writer(&mut *out, &line).map_err(EntryError::Json)?;
        out.push(b'\n');
        if out.len() - start > LINE_BYTES_MAX {
            out.truncate(start);
            return Err(EntryError::TooLong);
        }
        line_ended(out.len());
        for group in groups {
            let more = MoreLine { more: group.iter().map(Item::from).collect() };
            serde_json::to_writer(&mut *out, &more).map_err(EntryError::Json)?;
            out.push(b'\n');
            line_ended(out.len());
        }
        Ok(())
    }

    /// The path as people read it: with a leading `/`, bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn display_path(&self) -> String {
        display_path(&self.path)
    }

    /// Content length in bytes; 0 for everything that is not a regular file.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.size,
            _ => 0,
        }
    }
}

/// `path` (without its leading `/`) as people read it.
#[must_use]
pub fn display_path(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Orders paths as a depth-first walk with sorted names meets them: a directory, all that is in it,
/// then its next sibling. That is byte order with `/` lower than every other byte.
#[must_use]
pub fn tree_order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

/// A parsed line of a tree.
#[derive(Debug)]
pub enum Line {
    /// The first line of an entry.
    Entry(Entry),
    /// More content items of the file in the line before.
    More(Vec<Extent>),
}

impl Line {
    /// Parses one line, with or without its newline.
    pub fn parse(line: &[u8]) -> Result<Self, EntryError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(EntryError::TooLong);
        }
        if line.starts_with(b"{\"more\"") {
            let more: MoreLine = serde_json::from_slice(line).map_err(EntryError::Json)?;
            return more
                .more
                .into_iter()
                .map(Extent::try_from)
                .collect::<Result<_, _>>()
                .map(Self::More);
        }
        let line: EntryLine = serde_json::from_slice(line).map_err(EntryError::Json)?;
        Entry::try_from(line).map(Self::Entry)
    }
}

/// The entries of tree lines.
pub fn parse_entries(lines: &[u8]) -> Result<Vec<Entry>, EntryError> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match (Line::parse(line)?, entries.last_mut()) {
            (Line::Entry(entry), _) => entries.push(entry),
            (Line::More(more), Some(Entry { kind: Kind::File(content), .. })) => {
                content.extents.extend(more);
            }
            (Line::More(_), _) => return Err(EntryError::Field("more")),
        }
    }
    Ok(entries)
}

/// Splits a file's extents into the groups that share a line.
struct ExtentGroups<'a>(&'a [Extent]);

impl<'a> Iterator for ExtentGroups<'a> {
    type Item = &'a [Extent];

    fn next(&mut self) -> Option<&'a [Extent]> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.iter().take(ITEMS_PER_LINE_MAX).position(|extent| match extent {
            Extent::Chunk(id) => id.0[0] & LINE_CUT_MASK == 0,
            Extent::Hole(_) => false,
        });
        let length = cut.map_or(self.0.len().min(ITEMS_PER_LINE_MAX), |at| at + 1);
        let (group, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(group)
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Dir,
    File,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

impl Kind {
    fn name(&self) -> KindName {
        match self {
            Self::Directory => KindName::Dir,
            Self::File(_) => KindName::File,
            Self::Symlink(_) => KindName::Symlink,
            Self::Fifo => KindName::Fifo,
            Self::Socket => KindName::Socket,
            Self::CharDevice(..) => KindName::Char,
            Self::BlockDevice(..) => KindName::Block,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(rename = "type")]
    kind: KindName,
    mode: String,
    uid: u32,
    gid: u32,
    mtime: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<XattrLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardlink_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardlink_of_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    torn: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    data: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoreLine {
    more: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct XattrLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_b64: Option<String>,
    value_b64: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde's skip_serializing_if asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The bytes as text, or, when they are not UTF-8, in base64 for the `…_b64` twin of the field.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

fn bytes_of(
    text: Option<String>,
    base64: Option<String>,
    both: &'static str,
) -> Result<Option<Vec<u8>>, EntryError> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => {
            BASE64.decode(base64).map(Some).map_err(|_| EntryError::Field(both))
        }
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(EntryError::Field(both)),
    }
}

impl From<&Xattr> for XattrLine {
    fn from(xattr: &Xattr) -> Self {
        let (name, name_b64) = text_or_base64(&xattr.name);
        Self { name: name.map(str::to_owned), name_b64, value_b64: BASE64.encode(&xattr.value) }
    }
}

impl TryFrom<XattrLine> for Xattr {
    type Error = EntryError;

    fn try_from(line: XattrLine) -> Result<Self, EntryError> {
        let name = bytes_of(line.name, line.name_b64, "xattrs.name")?
            .filter(|name| !name.is_empty() && !name.contains(&0))
            .ok_or(EntryError::Field("xattrs.name"))?;
        let value =
            BASE64.decode(line.value_b64).map_err(|_| EntryError::Field("xattrs.value_b64"))?;
        Ok(Self { name, value })
    }
}

impl TryFrom<EntryLine> for Entry {
    type Error = EntryError;

    fn try_from(line: EntryLine) -> Result<Self, EntryError> {
        let path = bytes_of(line.path, line.path_b64, "path")?.ok_or(EntryError::Field("path"))?;
        check_path(&path)?;
        let hardlink_of = bytes_of(line.hardlink_of, line.hardlink_of_b64, "hardlink_of")?;
        hardlink_of.as_deref().map_or(Ok(()), check_path)?;
        let target = bytes_of(line.target, line.target_b64, "target")?;
        if !matches!(line.kind, KindName::File) && (line.torn || !line.data.is_empty()) {
            return Err(EntryError::Field("torn or data of what is no file"));
        }
        let kind = match (line.kind, target, line.device, line.size) {
            (KindName::Dir, None, None, None) => Kind::Directory,
            (KindName::Fifo, None, None, None) => Kind::Fifo,
            (KindName::Socket, None, None, None) => Kind::Socket,
            (KindName::Symlink, Some(target), None, None) if !target.contains(&0) => {
                Kind::Symlink(target)
            }
            (KindName::Char, None, Some((major, minor)), None) => Kind::CharDevice(major, minor),
            (KindName::Block, None, Some((major, minor)), None) => Kind::BlockDevice(major, minor),
            (KindName::File, None, None, Some(size)) => Kind::File(FileContent {
                size,
                torn: line.torn,
                extents: line.data.into_iter().map(Extent::try_from).collect::<Result<_, _>>()?,
            }),
            _ => return Err(EntryError::Field("type, with target, device or size")),
        };
        Ok(Self {
            path,
            kind,
            mode: mode_of(&line.mode).ok_or(EntryError::Field("mode"))?,
            uid: line.uid,
            gid: line.gid,
            mtime: line.mtime.parse().map_err(|()| EntryError::Field("mtime"))?,
            xattrs: line.xattrs.into_iter().map(Xattr::try_from).collect::<Result<_, _>>()?,
            hardlink_of,
        })
    }
}

/// Exactly four octal digits: a mode has one spelling.
fn mode_of(text: &str) -> Option<u32> {
    let is_sound = text.len() == 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if is_sound { u32::from_str_radix(text, 8).ok() } else { None }
}

/// Refuses what would leave the restore target: empty, `.` and `..` components, NUL, a leading `/`.
fn check_path(path: &[u8]) -> Result<(), EntryError> {
    let sound = path.is_empty()
        || path
            .split(|byte| *byte == b'/')
            .all(|name| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0));
    if sound { Ok(()) } else { Err(EntryError::Field("path")) }
}

/// An extent in JSON: a chunk id in hex, or the length of a hole as a number.
enum Item {
    Chunk(ChunkId),
    Hole(u64),
}

impl From<&Extent> for Item {
    fn from(extent: &Extent) -> Self {
        match extent {
            Extent::Chunk(id) => Self::Chunk(*id),
            Extent::Hole(length) => Self::Hole(*length),
        }
    }
}

impl TryFrom<Item> for Extent {
    type Error = EntryError;

    fn try_from(item: Item) -> Result<Self, EntryError> {
        match item {
            Item::Chunk(id) => Ok(Self::Chunk(id)),
            Item::Hole(0) => Err(EntryError::Field("data: an empty hole")),
            Item::Hole(length) => Ok(Self::Hole(length)),
        }
    }
}

impl Serialize for Item {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Chunk(id) => serializer.collect_str(id),
            Self::Hole(length) => serializer.serialize_u64(*length),
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl serde::de::Visitor<'_> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a chunk id of 32 hex digits or the length of a hole")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
                text.parse()
                    .map(Item::Chunk)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, length: u64) -> Result<Item, E> {
                Ok(Item::Hole(length))
            }
        }

        deserializer.deserialize_any(ItemVisitor)
    }
}

impl fmt::Display for Timestamp {
    /// Decimal seconds as `touch -d @…` and pax records take them: `-0.000000001` for one nanosecond
    /// before the epoch, no fraction where it is zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return write!(f, "{}", self.seconds);
        }
        let total = i128::from(self.seconds) * NANOS_PER_SECOND + i128::from(self.nanos);
        let sign = if total < 0 { "-" } else { "" };
        let (seconds, nanos) = (
            total.unsigned_abs() / NANOS_PER_SECOND.unsigned_abs(),
            total.unsigned_abs() % NANOS_PER_SECOND.unsigned_abs(),
        );
        let digits = format!("{nanos:09}");
        write!(f, "{sign}{seconds}.{}", digits.trim_end_matches('0'))
    }
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

impl std::str::FromStr for Timestamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(seconds) || !all_digits(fraction) || fraction.len() > 9 {
            return Err(());
        }
        let nanos: i128 = format!("{fraction:0<9}").parse().map_err(|_| ())?;
        let total =
            seconds.parse::<i128>().ok().and_then(|s| s.checked_mul(NANOS_PER_SECOND)).ok_or(())?
                + nanos;
        let total = if negative { -total } else { total };
        let seconds = i64::try_from(total.div_euclid(NANOS_PER_SECOND)).map_err(|_| ())?;
        let nanos = u32::try_from(total.rem_euclid(NANOS_PER_SECOND)).map_err(|_| ())?;
        Ok(Self { seconds, nanos })
    }
}

#[cfg(test)]
mod tests;
