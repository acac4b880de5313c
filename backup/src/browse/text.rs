//! Values of a snapshot as people read them; nothing here trusts a name.

use std::fmt;

use serde::Serialize;

use crate::entry::{Entry, Kind, Timestamp, text_or_base64};

/// Bytes as text that no terminal acts on: control characters, direction marks and bytes that are not
/// UTF-8 as escapes of C, the backslash doubled so that the text is unambiguous.
pub(crate) fn escaped(bytes: &[u8]) -> Escaped<'_> {
    Escaped { prefix: "", bytes }
}

/// The same of a path without its leading `/`, which is added.
pub(crate) fn escaped_path(path: &[u8]) -> Escaped<'_> {
    Escaped { prefix: "/", bytes: path }
}

/// See [`escaped`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'a> {
    prefix: &'static str,
    bytes: &'a [u8],
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        f.write_str(self.prefix)?;
        for piece in self.bytes.utf8_chunks() {
            for char in piece.valid().chars() {
                match char {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    _ if char.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(char))?,
                    _ if char.is_control() || changes_direction(char) => {
                        write!(f, "\\u{{{:x}}}", u32::from(char))?;
                    }
                    _ => f.write_char(char)?,
                }
            }
            for byte in piece.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that reorder or break a line (Unicode Standard Annex 9; line and paragraph separators).
fn changes_direction(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `2026-11-22T19:45:12Z`; years that have no such form as `@` and seconds.
pub(super) fn time(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.seconds) {
        Ok(time) => instant(time),
        Err(_) => format!("@{time}"),
    }
}

/// `2026-11-22T19:45:12Z`.
pub(crate) fn instant(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `drwxr-xr-t`, as ls(1) shows it.
pub(super) fn mode(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::Directory => 'd',
        Kind::File(_) => '-',
        Kind::Symlink(_) => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
    };
    let bit = |mask: u32, set: char| if entry.mode & mask == 0 { '-' } else { set };
    let execute = |mask: u32, special: u32, both: char, alone: char| match (
        entry.mode & mask != 0,
        entry.mode & special != 0,
    ) {
        (true, true) => both,
        (false, true) => alone,
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        kind,
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        execute(0o100, 0o4000, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        execute(0o010, 0o2000, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        execute(0o001, 0o1000, 't', 'T'),
    ]
    .iter()
    .collect()
}

/// What it is, in the words of the tree format.
pub(super) fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "dir",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice(..) => "char",
        Kind::BlockDevice(..) => "block",
    }
}

/// A path as JSON has it: with its leading `/`, or in base64 when it is not UTF-8.
#[derive(Debug, Serialize)]
pub(super) struct PathView {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl PathView {
    pub(super) fn new(path: &[u8]) -> Self {
        let absolute = [b"/", path].concat();
        let (path, path_b64) = text_or_base64(&absolute);
        Self { path: path.map(str::to_owned), path_b64 }
    }
}

/// An entry as JSON has it: the tree's own field names, without the content.
#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    #[serde(flatten)]
    path: PathView,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    /// Decimal seconds.
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    torn: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardlink_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardlink_of_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    /// Names only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        let (target, target_b64) = match &entry.kind {
            Kind::Symlink(target) => text_or_base64(target),
            _ => (None, None),
        };
        let first = entry.hardlink_of.as_ref().map(|first| [b"/", first.as_slice()].concat());
        let (hardlink_of, hardlink_of_b64) = first.as_deref().map_or((None, None), text_or_base64);
        Self {
            path: PathView::new(&entry.path),
            kind: kind(&entry.kind),
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime.to_string(),
            size: match &entry.kind {
                Kind::File(content) => Some(content.size),
                _ => None,
            },
            torn: matches!(&entry.kind, Kind::File(content) if content.torn),
            target: target.map(str::to_owned),
            target_b64,
            hardlink_of: hardlink_of.map(str::to_owned),
            hardlink_of_b64,
            device: match entry.kind {
                Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                    Some((major, minor))
                }
                _ => None,
            },
            xattrs: entry
                .xattrs
                .iter()
                .map(|xattr| String::from_utf8_lossy(&xattr.name).into_owned())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
