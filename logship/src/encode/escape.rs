//! Text inside a JSON string (RFC 8259, section 7), byte for byte as `serde_json` writes it.

/// Bytes that are looked at together: the compiler makes one comparison of them.
const LANES: usize = 16;

/// Adds `text` with what must be escaped escaped, without quotes around it.
#[inline]
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let clean = clean_len(rest);
        let Some((head, tail)) = rest.split_at_checked(clean) else { return };
        out.extend_from_slice(head);
        let Some((byte, tail)) = tail.split_first() else { return };
        escape(out, *byte);
        rest = tail;
    }
}

/// Adds `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    text(out, value.as_bytes());
    out.push(b'"');
}

/// Bytes before the first that must be escaped.
#[inline]
fn clean_len(bytes: &[u8]) -> usize {
    let (chunks, tail) = bytes.as_chunks::<LANES>();
    let mut clean = 0;
    for chunk in chunks {
        let mut dirty = 0;
        for byte in chunk {
            dirty |= u8::from(*byte < 0x20) | u8::from(*byte == b'"') | u8::from(*byte == b'\\');
        }
        if dirty != 0 {
            return clean + one_by_one(chunk);
        }
        clean += LANES;
    }
    clean + one_by_one(tail)
}

#[inline]
fn one_by_one(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    bytes.iter().position(is_special).unwrap_or(bytes.len())
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
