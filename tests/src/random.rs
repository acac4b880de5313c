//! Small deterministic randomness: the same seed gives the same bytes on every machine.

/// A SplitMix64 generator (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that yields the same sequence for the same `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// `length` incompressible bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            out.extend_from_slice(&self.bits().to_le_bytes());
        }
        out.truncate(length);
        out
    }

    /// `length` bytes that look like log lines: they compress, and no two stretches are equal.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 8] =
            ["GET", "POST", "/index.html", "/api/v1/items", "200", "404", "ok", "timeout"];
        let mut out = Vec::with_capacity(length + 64);
        while out.len() < length {
            let number = self.bits();
            let word = WORDS[(number % 8) as usize];
            out.extend_from_slice(
                format!("{:08x} {word} {:04x}\n", number >> 32, number & 0xffff).as_bytes(),
            );
        }
        out.truncate(length);
        out
    }
}
