//! How many data ranges of one file are kept apart.

use crate::tar_writer::DATA_RANGES_MAX;

/// `ranges` (ascending), with holes filled where there are more than [`DATA_RANGES_MAX`] ranges: those
/// shorter than a bound that doubles until the rest fits. A filled hole is read as the zeros it is.
pub(crate) fn bounded_ranges(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    merged(ranges, DATA_RANGES_MAX)
}

fn merged(ranges: impl Iterator<Item = (u64, u64)>, ranges_max: usize) -> Vec<(u64, u64)> {
    let mut kept = Vec::new();
    let mut gap_min = 1_u64;
    for range in ranges {
        push(&mut kept, range, gap_min);
        while kept.len() > ranges_max.max(1) {
            gap_min = gap_min.saturating_mul(2);
            let all = std::mem::take(&mut kept);
            for range in all {
                push(&mut kept, range, gap_min);
            }
        }
    }
    kept
}

fn push(kept: &mut Vec<(u64, u64)>, (offset, length): (u64, u64), gap_min: u64) {
    match kept.last_mut() {
        Some((last, last_length)) if offset.saturating_sub(*last + *last_length) < gap_min => {
            *last_length = offset + length - *last;
        }
        _ => kept.push((offset, length)),
    }
}

#[cfg(test)]
mod tests;
