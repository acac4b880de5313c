//! `SQLite` files (file format, "The Database Header"): as long as the pages that the header counts.

use super::Flaw;

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The value 1 for pages of this size.
const PAGE_BYTES_OF_ONE: u64 = 65536;

/// Counts.
#[derive(Debug, Default)]
pub(in super::super) struct Sqlite {
    header: Vec<u8>,
    length: u64,
}

impl Sqlite {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let missing = HEADER_BYTES.saturating_sub(self.header.len());
        self.header.extend(bytes.iter().take(missing));
        self.length += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> Result<&'static str, Flaw> {
        let header = self.header.as_slice();
        if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
            return Err(Flaw::new("it is no SQLite database"));
        }
        let at = |offset: usize, bytes: usize| {
            let field = header.get(offset..offset + bytes).unwrap_or_default();
            field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let page = match at(16, 2) {
            1 => PAGE_BYTES_OF_ONE,
            size => size,
        };
        // The count of pages is true where the counter of changes was written with it.
        let (pages, is_counted) = (at(28, 4), at(24, 4) == at(92, 4));
        let is_whole = match pages {
            0 => page > 0 && self.length.is_multiple_of(page),
            _ if !is_counted => page > 0 && self.length.is_multiple_of(page),
            pages => pages * page == self.length,
        };
        if is_whole {
            return Ok("sqlite-pages");
        }
        let length = self.length;
        Err(Flaw::new(format!("it has {length} bytes, its header counts {pages} pages of {page}")))
    }
}
