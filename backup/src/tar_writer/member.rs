//! What an entry becomes in the archive: which fields, which records, how many bytes. Nothing is written
//! here.

use tar::{EntryType, Header};

use super::acl;
use super::pax::{Records, xattr_keyword};
use super::sparse::SparseMap;
use super::{BLOCK_BYTES, PAX_BYTES_MAX, TarError, padding};
use crate::entry::{Entry, Kind};

/// Largest number in the eight bytes of `uid`, `gid`, `devmajor` and `devminor`: seven octal digits.
const SHORT_FIELD_MAX: u32 = 0o7_777_777;

/// Largest number in the twelve bytes of `size` and `mtime`: eleven octal digits.
const LONG_FIELD_MAX: u64 = 0o77_777_777_777;

/// The name in the header of a file with holes: only readers that do not know sparse members see it.
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/member";

/// One entry, ready to be written.
#[derive(Debug)]
pub(super) struct Member {
    /// The records of the extended header; empty when none is needed.
    pub(super) records: Vec<u8>,
    /// The header block, checksum included.
    pub(super) header: Header,
    /// In front of the data of a file with holes.
    pub(super) sparse_map: Option<SparseMap>,
    /// Bytes of data to come.
    pub(super) body_bytes: u64,
}

impl Member {
    pub(super) fn new(entry: &Entry, data: &[(u64, u64)]) -> Result<Self, TarError> {
        let mut records = Records::default();
        let mut header = Header::new_ustar();
        header.set_entry_type(entry_type(entry));
        header.set_mode(entry.mode & 0o7777);
        set_owner(&mut header, &mut records, entry);
        set_mtime(&mut header, &mut records, entry);
        set_device(&mut header, entry);

        let (sparse_map, body_bytes) = match &entry.kind {
            Kind::File(content) if entry.hardlink_of.is_none() => {
                SparseMap::new(content.size, data)
                    .map_err(|_| TarError::Ranges { path: entry.display_path() })?
            }
            _ => (None, 0),
        };
        let map_bytes = sparse_map
            .as_ref()
            .map_or(0, |map| map.text_bytes() + padding(map.text_bytes()) as u64);
        let stored_bytes = map_bytes + body_bytes;
        header.set_size(stored_bytes.min(LONG_FIELD_MAX));
        if stored_bytes > LONG_FIELD_MAX {
            records.push_display("size", &stored_bytes);
        }

        let name = member_name(entry);
        if sparse_map.is_some() {
            records.push_display("GNU.sparse.major", &1);
            records.push_display("GNU.sparse.minor", &0);
            records.push_display("GNU.sparse.realsize", &entry.size());
            records.push(b"GNU.sparse.name".as_slice(), name.as_slice());
            fill(&mut header.as_old_mut().name, SPARSE_NAME);
        } else if !fill(&mut header.as_old_mut().name, &name) {
            records.push(b"path".as_slice(), name.as_slice());
        }
        let link = link_name(entry).unwrap_or_default();
        if !fill(&mut header.as_old_mut().linkname, link) {
            records.push(b"linkpath".as_slice(), link);
        }
        if std::str::from_utf8(&name).is_err() || std::str::from_utf8(link).is_err() {
            records.push(b"hdrcharset".as_slice(), b"BINARY".as_slice());
        }
        if entry.hardlink_of.is_none() {
            for xattr in &entry.xattrs {
                if let Some((keyword, text)) = acl::record(xattr) {
                    records.push(keyword.as_bytes(), text.into_bytes());
                }
                records.push(xattr_keyword(&xattr.name), xattr.value.as_slice());
            }
        }
        let records = records.encode();
        if records.len() > PAX_BYTES_MAX {
            return Err(TarError::MetadataTooLong { path: entry.display_path() });
        }
        header.set_cksum();
        Ok(Self { records, header, sparse_map, body_bytes })
    }
}

fn entry_type(entry: &Entry) -> EntryType {
    if entry.hardlink_of.is_some() {
        return EntryType::Link;
    }
    match entry.kind {
        Kind::Directory => EntryType::Directory,
        Kind::File(_) | Kind::Socket => EntryType::Regular,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::Fifo => EntryType::Fifo,
        Kind::CharDevice(..) => EntryType::Char,
        Kind::BlockDevice(..) => EntryType::Block,
    }
}

/// The path as archives have it: relative, directories end in `/`, the root is `./`.
fn member_name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.clone();
    if name.is_empty() {
        name.push(b'.');
    }
    if entry.kind == Kind::Directory {
        name.push(b'/');
    }
    name
}

fn link_name(entry: &Entry) -> Option<&[u8]> {
    match (&entry.hardlink_of, &entry.kind) {
        (Some(first), _) => Some(first),
        (None, Kind::Symlink(target)) => Some(target),
        (None, _) => None,
    }
}

/// Fields that are too narrow hold their largest value, never a truncated one: a reader that ignores the
/// record must not hand a set-user-ID file to another user by chance, least of all to root.
fn set_owner(header: &mut Header, records: &mut Records<'_>, entry: &Entry) {
    header.set_uid(entry.uid.min(SHORT_FIELD_MAX).into());
    header.set_gid(entry.gid.min(SHORT_FIELD_MAX).into());
    if entry.uid > SHORT_FIELD_MAX {
        records.push_display("uid", &entry.uid);
    }
    if entry.gid > SHORT_FIELD_MAX {
        records.push_display("gid", &entry.gid);
    }
}

fn set_mtime(header: &mut Header, records: &mut Records<'_>, entry: &Entry) {
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0).min(LONG_FIELD_MAX);
    header.set_mtime(seconds);
    if entry.mtime.nanos != 0 || i64::try_from(seconds) != Ok(entry.mtime.seconds) {
        records.push_display("mtime", &entry.mtime);
    }
}

/// pax has no records for device numbers that GNU tar, libarchive and Python all read; they all read the
/// binary form of the field. Numbers that large exist in the file format, not on Linux.
fn set_device(header: &mut Header, entry: &Entry) {
    let (major, minor) = match entry.kind {
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => (major, minor),
        _ => (0, 0),
    };
    if let Some(fields) = header.as_ustar_mut() {
        fields.dev_major = device_field(major);
        fields.dev_minor = device_field(minor);
    }
}

fn device_field(number: u32) -> [u8; 8] {
    let mut field = [0; 8];
    if number > SHORT_FIELD_MAX {
        let [a, b, c, d] = number.to_be_bytes();
        return [0x80, 0, 0, 0, a, b, c, d];
    }
    fill(&mut field, format!("{number:07o}").as_bytes());
    field
}

/// Puts `text`, or as much of it as fits, into `field`; false when a record must carry the whole text:
/// the field holds 100 bytes and only ASCII means the same everywhere.
fn fill(field: &mut [u8], text: &[u8]) -> bool {
    for (slot, byte) in field.iter_mut().zip(text) {
        *slot = *byte;
    }
    text.len() <= field.len() && text.is_ascii()
}

const _: () = assert!(BLOCK_BYTES == size_of::<Header>());
