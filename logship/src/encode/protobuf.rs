//! The wire format of protocol buffers (protobuf.dev, "Encoding"), as far as we write and read it.

use crate::block::{put_varint, take_varint};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed width, which nothing that we read has.
    Fixed,
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_header(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// What stands before the bytes of a field that has so many.
pub(super) fn put_header(out: &mut Vec<u8>, field: u64, len: usize) {
    put_varint(out, field << 3 | BYTES);
    put_varint(out, len as u64);
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3 | VARINT);
    put_varint(out, value);
}

pub(super) fn put_fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// The next field of a message; `None` at its end, and where it is no message.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_varint(bytes)?;
    let value = match key & 7 {
        VARINT => Value::Varint(take_varint(bytes)?),
        FIXED64 => cut(bytes, 8).map(|_| Value::Fixed)?,
        FIXED32 => cut(bytes, 4).map(|_| Value::Fixed)?,
        BYTES => {
            let len = usize::try_from(take_varint(bytes)?).ok()?;
            Value::Bytes(cut(bytes, len)?)
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

fn cut<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(value)
}
