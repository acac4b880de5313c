//! `from="…"`: where a client may come from. Addresses, `ADDRESS/BITS`, and addresses with `*` and `?`; never names,
//! since those would have to be looked up.

use std::net::IpAddr;

use super::patterns::{elements, is_match};

/// The bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u32 = 96;

/// A list of addresses, some of which may be negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressList(Vec<Element>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    is_negated: bool,
    range: Range,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Range {
    Network { address: IpAddr, bits: u32 },
    Pattern(String),
}

impl AddressList {
    /// Reads a list.
    pub fn parse(text: &str) -> Result<Self, String> {
        let elements = elements(text)?
            .map(|(is_negated, text)| Ok(Element { is_negated, range: Range::parse(text)? }));
        elements.collect::<Result<_, String>>().map(Self)
    }

    /// Whether an element has this address, and none that is negated does.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let of = |is_negated: bool| {
            self.0
                .iter()
                .filter(move |element| element.is_negated == is_negated)
                .any(|element| element.range.contains(address))
        };
        of(false) && !of(true)
    }
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some((address, bits)) = text.split_once('/') {
            let wrong = || format!("{text:?} is no ADDRESS/BITS");
            let address = address.parse::<IpAddr>().map_err(|_| wrong())?;
            let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
            let bits = bits.parse::<u32>().ok().filter(|bits| is_number && *bits <= width(address));
            let bits = bits.ok_or_else(wrong)?;
            if masked(address, bits) != number(address) {
                return Err(format!("{text:?} has bits set behind the first {bits}"));
            }
            return match (address, address.to_canonical()) {
                (IpAddr::V6(_), IpAddr::V4(inner)) if bits >= MAPPED_BITS => {
                    Ok(Self::Network { address: IpAddr::V4(inner), bits: bits - MAPPED_BITS })
                }
                (address, _) => Ok(Self::Network { address, bits }),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Ok(Self::Network { address, bits: width(address) });
        }
        let is_of_address =
            |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'*' | b'?');
        let is_pattern = text.contains(['*', '?']) && text.bytes().all(is_of_address);
        // An address has many spellings there, and a pattern would have to fit ours.
        if is_pattern && text.contains(':') {
            return Err(format!("{text:?} is no pattern for IPv4: give ADDRESS/BITS for IPv6"));
        }
        if !is_pattern {
            return Err(format!(
                "{text:?} is no address: give for example 192.0.2.7, 192.0.2.0/24 or 192.0.2.*; names are not \
                 looked up"
            ));
        }
        Ok(Self::Pattern(text.to_ascii_lowercase()))
    }

    fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Network { address: network, bits } => {
                network.is_ipv4() == address.is_ipv4()
                    && masked(address, *bits) == masked(*network, *bits)
            }
            Self::Pattern(pattern) => is_match(pattern, &address.to_string()),
        }
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number whose first bit is the highest.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Its first `bits` bits.
fn masked(address: IpAddr, bits: u32) -> u128 {
    let mask = 128_u32.checked_sub(bits).and_then(|shift| u128::MAX.checked_shl(shift));
    number(address) & mask.unwrap_or_default()
}
