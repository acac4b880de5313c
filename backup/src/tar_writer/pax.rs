//! Records of an extended header: `"%d %s=%s\n"` of length, keyword and value, where the length counts
//! the whole record, its own digits included (POSIX.1-2017, "pax Header Block").

use std::borrow::Cow;

use tar::{EntryType, Header};

/// The name of every extended header. Readers that know them never show it; those that do not get one
/// stray file and not one per member.
const NAME: &[u8] = b"PaxHeaders/member";

/// The keywords and values of one extended header.
#[derive(Debug, Default)]
pub(super) struct Records<'a>(Vec<Record<'a>>);

/// A keyword and its value.
type Record<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Records<'a> {
    pub(super) fn push(
        &mut self,
        keyword: impl Into<Cow<'a, [u8]>>,
        value: impl Into<Cow<'a, [u8]>>,
    ) {
        self.0.push((keyword.into(), value.into()));
    }

    pub(super) fn push_display(&mut self, keyword: &'static str, value: &impl ToString) {
        self.push(keyword.as_bytes(), value.to_string().into_bytes());
    }

    /// The records in the order of their keywords, so that equal metadata gives equal bytes.
    pub(super) fn encode(mut self) -> Vec<u8> {
        self.0.sort();
        let mut out = Vec::new();
        for (keyword, value) in &self.0 {
            let content = keyword.len() + value.len() + b" =\n".len();
            out.extend_from_slice(record_bytes(content).to_string().as_bytes());
            out.push(b' ');
            out.extend_from_slice(keyword);
            out.push(b'=');
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out
    }
}

/// The length of a record that has `content` bytes besides the digits of that length.
fn record_bytes(content: usize) -> usize {
    let mut total = content;
    loop {
        let next = content + total.to_string().len();
        if next == total {
            return total;
        }
        total = next;
    }
}

/// The header block in front of `length` bytes of records.
pub(super) fn header(length: usize) -> Header {
    let mut header = Header::new_ustar();
    for (slot, byte) in header.as_old_mut().name.iter_mut().zip(NAME) {
        *slot = *byte;
    }
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(length as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    header
}

/// The keyword of an extended attribute. A keyword ends at its first `=`, so names that contain one are
/// escaped as GNU tar (1.29 and later) writes and reads them: `%` as `%25`, `=` as `%3D`.
pub(super) fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            _ => keyword.push(*byte),
        }
    }
    keyword
}
