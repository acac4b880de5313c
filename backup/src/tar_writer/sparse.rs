//! The map of a file with holes, as text in front of its data: the number of ranges, then offset and
//! length of each, one decimal number a line (GNU tar manual, "Storing Sparse Files", version 1.0).

/// The data ranges of a file that has holes.
#[derive(Debug)]
pub(super) struct SparseMap {
    ranges: Vec<(u64, u64)>,
    text_bytes: u64,
}

/// A file's data ranges are not ascending ranges inside the file.
#[derive(Debug)]
pub(super) struct Contradiction;

impl SparseMap {
    /// The map and the bytes of data of a file of `size` bytes; no map where there is no hole.
    pub(super) fn new(
        size: u64,
        data: &[(u64, u64)],
    ) -> Result<(Option<Self>, u64), Contradiction> {
        if data.len() > super::DATA_RANGES_MAX || i64::try_from(size).is_err() {
            return Err(Contradiction);
        }
        let mut end = 0;
        let mut data_bytes = 0;
        for &(offset, length) in data {
            if offset < end || length == 0 {
                return Err(Contradiction);
            }
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or(Contradiction)?;
            data_bytes += length;
        }
        if data_bytes == size {
            return Ok((None, data_bytes));
        }
        let mut ranges = data.to_vec();
        if end < size {
            // Without it GNU tar would make the file end with its last data.
            ranges.push((size, 0));
        }
        let mut map = Self { ranges, text_bytes: 0 };
        map.text_bytes = map.lines().map(|line| line.len() as u64).sum();
        Ok((Some(map), data_bytes))
    }

    /// The lines of the map, each with its newline.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let count = std::iter::once(format!("{}\n", self.ranges.len()));
        count.chain(self.ranges.iter().map(|(offset, length)| format!("{offset}\n{length}\n")))
    }

    /// The length of all lines together.
    pub(super) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }
}
