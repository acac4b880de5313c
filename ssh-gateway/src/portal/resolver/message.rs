//! Messages of the domain name system (RFC 1035, 4), as far as one who asks for addresses needs them.

use std::net::IpAddr;

/// Bytes of a name as it travels, the last zero included (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes of one label.
const LABEL_BYTES_MAX: usize = 63;
/// Records of an answer that are looked at.
const RECORDS_MAX: usize = 256;
/// Aliases that are followed from one name.
const ALIASES_MAX: usize = 8;

/// Class IN.
const INTERNET: u16 = 1;
/// Type CNAME.
const ALIAS: u16 = 5;

const FLAG_RESPONSE: u16 = 1 << 15;
const FLAG_TRUNCATED: u16 = 1 << 9;
const FLAG_RECURSION_DESIRED: u16 = 1 << 8;
const MASK_OPERATION: u16 = 0b1111 << 11;
const MASK_CODE: u16 = 0b1111;
const CODE_NO_NAME: u16 = 3;

/// A name in lower case as it travels, without compression: labels with their lengths, then a zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

/// Which kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// By chance, so that others cannot guess it.
    pub(super) id: u16,
    pub(super) name: Name,
    pub(super) family: Family,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// At least one.
    Addresses(Vec<IpAddr>),
    /// The name exists and has none of this family.
    NoAddress,
    /// The name does not exist.
    NoName,
    /// The answer is too long for a datagram.
    Truncated,
    /// The server cannot tell, or says what means nothing.
    Failed,
}

impl Name {
    /// Letters, digits, dashes and underscores between dots; a dot at the end is allowed.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.bytes().all(is_fine) {
                return None;
            }
            wire.push(u8::try_from(label.len()).ok()?);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= NAME_BYTES_MAX).then_some(Self(wire))
    }
}

impl Family {
    /// Type A or AAAA (RFC 3596).
    fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            Self::V6 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        }
    }
}

impl Question {
    /// As it travels.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [self.id, FLAG_RECURSION_DESIRED, 1, 0, 0, 0] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(&self.name.0);
        bytes.extend(self.family.record_type().to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    /// What a message replies to this; `None` if it is not a reply to it.
    pub(super) fn reply(&self, message: &[u8]) -> Option<Reply> {
        let mut reader = Reader { message, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let (questions, records) = (reader.u16()?, reader.u16()?);
        let (_authorities, _more) = (reader.u16()?, reader.u16()?);
        if id != self.id || flags & (FLAG_RESPONSE | MASK_OPERATION) != FLAG_RESPONSE {
            return None;
        }
        let code = flags & MASK_CODE;
        // Who does not understand the question may not repeat it.
        if questions == 0 && code != 0 && code != CODE_NO_NAME {
            return Some(Reply::Failed);
        }
        let asked = (reader.name()?, reader.u16()?, reader.u16()?);
        if questions != 1 || asked != (self.name.clone(), self.family.record_type(), INTERNET) {
            return None;
        }
        Some(match code {
            _ if flags & FLAG_TRUNCATED != 0 => Reply::Truncated,
            0 => self.answer(reader, records).unwrap_or(Reply::Failed),
            CODE_NO_NAME => Reply::NoName,
            _ => Reply::Failed,
        })
    }

    /// Follows the aliases of an answer to addresses; `None` if it is malformed, or they have no end.
    fn answer(&self, mut reader: Reader<'_>, records: u16) -> Option<Reply> {
        let mut aliases = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..usize::from(records).min(RECORDS_MAX) {
            let record = reader.record()?;
            if record.class != INTERNET {
                continue;
            }
            if record.kind == ALIAS {
                let mut target = Reader { message: reader.message, at: record.data_at };
                aliases.push((record.name, target.name()?));
            } else if record.kind == self.family.record_type() {
                addresses.push((record.name, self.family.address(record.data)?));
            }
        }
        let mut name = &self.name;
        for _ in 0..=ALIASES_MAX {
            let found = addresses.iter().filter(|(owner, _)| owner == name);
            let found: Vec<_> = found.map(|(_, address)| *address).collect();
            if !found.is_empty() {
                return Some(Reply::Addresses(found));
            }
            match aliases.iter().find(|(owner, _)| owner == name) {
                Some((_, target)) => name = target,
                None => return Some(Reply::NoAddress),
            }
        }
        None
    }
}

/// Reads a message from `at` on.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

/// A resource record (RFC 1035, 4.1.3).
struct Record<'a> {
    name: Name,
    kind: u16,
    class: u16,
    data: &'a [u8],
    data_at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name, which may go on at an earlier place of the message (RFC 1035, 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut wire = Vec::new();
        let mut part = *self;
        let mut part_begins = self.at;
        let mut is_first = true;
        loop {
            match part.u8()? {
                0 => {
                    wire.push(0);
                    break;
                }
                length if usize::from(length) <= LABEL_BYTES_MAX => {
                    let label = part.take(usize::from(length))?;
                    wire.push(length);
                    wire.extend(label.iter().map(u8::to_ascii_lowercase));
                    if wire.len() >= NAME_BYTES_MAX {
                        return None;
                    }
                }
                high if high >> 6 == 0b11 => {
                    let low = part.u8()?;
                    if is_first {
                        self.at = part.at;
                        is_first = false;
                    }
                    let target = usize::from(u16::from_be_bytes([high & 0b11_1111, low]));
                    // Only ever backwards, so there is an end.
                    if target >= part_begins {
                        return None;
                    }
                    part_begins = target;
                    part.at = target;
                }
                _ => return None,
            }
        }
        if is_first {
            self.at = part.at;
        }
        Some(Name(wire))
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let _time_to_live = self.take(4)?;
        let length = usize::from(self.u16()?);
        let data_at = self.at;
        let data = self.take(length)?;
        Some(Record { name, kind, class, data, data_at })
    }
}

#[cfg(test)]
mod tests;
