//! POSIX ACLs as pax records.
//!
//! The kernel shows an ACL as a binary attribute (`linux/posix_acl_xattr.h`), but no tar restores it from
//! there: GNU tar and libarchive set ACLs only from the text records `SCHILY.acl.access` and
//! `SCHILY.acl.default`, which star introduced.

use std::fmt::Write as _;

use crate::entry::Xattr;

const VERSION: u32 = 2;

/// The record of an ACL attribute; `None` for every other attribute and for a value that is no ACL.
pub(super) fn record(xattr: &Xattr) -> Option<(&'static str, String)> {
    let keyword = match xattr.name.as_slice() {
        b"system.posix_acl_access" => "SCHILY.acl.access",
        b"system.posix_acl_default" => "SCHILY.acl.default",
        _ => return None,
    };
    Some((keyword, text(&xattr.value)?))
}

/// The ACL as `user::rw-,user:1234:r--:1234,…` (acl(5), "ACL TEXT FORMS", with numeric ids). The fourth
/// field is the id once more: libarchive takes a third field for a name, GNU tar drops the fourth.
fn text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut text = String::new();
    for [tag_0, tag_1, bits_0, bits_1, id @ ..] in entries {
        let (tag, named) = match u16::from_le_bytes([*tag_0, *tag_1]) {
            0x01 => ("user", false),
            0x02 => ("user", true),
            0x04 => ("group", false),
            0x08 => ("group", true),
            0x10 => ("mask", false),
            0x20 => ("other", false),
            _ => return None,
        };
        let bits = u16::from_le_bytes([*bits_0, *bits_1]);
        let flag = |bit: u16, letter: char| if bits & bit == 0 { '-' } else { letter };
        let permissions = [flag(4, 'r'), flag(2, 'w'), flag(1, 'x')].iter().collect::<String>();
        let id = u32::from_le_bytes(*id);
        let comma = if text.is_empty() { "" } else { "," };
        let written = if named {
            write!(text, "{comma}{tag}:{id}:{permissions}:{id}")
        } else {
            write!(text, "{comma}{tag}::{permissions}")
        };
        written.ok()?;
    }
    Some(text)
}
