//! The tar header of a chunk inside a pack of the repository.

use std::sync::LazyLock;

use tar::{EntryType, Header};

use super::BLOCK_BYTES;
use crate::chunk::ChunkId;

/// All that is equal in every header, and the sum of its bytes.
static TEMPLATE: LazyLock<(Header, u32)> = LazyLock::new(|| {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.as_old_mut().cksum = *b"        ";
    let sum = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
    (header, sum)
});

/// The header block of a member that holds one chunk: a regular file named by the 32 hex digits of the
/// id, mode 0644, owner 0:0, time 0. Equal arguments give equal bytes.
#[must_use]
pub fn chunk_member_header(id: &ChunkId, length: u32) -> [u8; BLOCK_BYTES] {
    let (mut header, mut sum) = TEMPLATE.clone();
    let fields = header.as_old_mut();

    let digits = id.0.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
    for (slot, digit) in fields.name.iter_mut().zip(digits) {
        *slot = digit;
        sum += u32::from(digit);
    }
    put_octal(&mut fields.size, length);
    sum += fields.size.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    put_octal(&mut fields.cksum, sum);
    *header.as_bytes()
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

/// `number` in octal digits with leading zeros, ended by NUL.
fn put_octal(field: &mut [u8], mut number: u32) {
    for slot in field.iter_mut().rev().skip(1) {
        *slot = b'0' + (number & 7) as u8;
        number >>= 3;
    }
    if let Some(end) = field.last_mut() {
        *end = 0;
    }
}
