//! Which packs a partial check reads.

use std::fmt;
use std::str::FromStr;

use crate::pack::PackId;

/// Steps of the circle on which packs lie by the first two bytes of their ids.
const CIRCLE: u64 = 1 << 16;

/// A share: 1 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

/// A text is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no share: give a whole number from 1 to 100")]
pub struct InvalidPercent(String);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(100);

    /// Whether the share number `rotation` holds `pack`. Shares are arcs of a circle on which ids lie
    /// evenly; each begins where the one before ended, so none is left out for long.
    pub(super) fn takes(self, pack: &PackId, rotation: u64) -> bool {
        let [first, second, ..] = pack.0.0;
        let at = u64::from(u16::from_be_bytes([first, second]));
        // Rounded up, so that 100 / percent shares close the circle.
        let arc = (CIRCLE * u64::from(self.0)).div_ceil(100);
        let begin = rotation.wrapping_mul(arc) % CIRCLE;
        (CIRCLE + at - begin) % CIRCLE < arc
    }
}

impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
        number
            .filter(|number| (1..=100).contains(number))
            .map(Self)
            .ok_or_else(|| InvalidPercent(text.to_owned()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests;
