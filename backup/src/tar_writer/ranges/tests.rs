use super::*;

#[test]
fn few_ranges_stay_as_they_are() {
    let ranges = [(0, 10), (20, 5), (4096, 1)];
    assert_eq!(merged(ranges.into_iter(), 3), ranges);
}

#[test]
fn adjacent_ranges_become_one() {
    assert_eq!(merged([(0, 10), (10, 5)].into_iter(), 9), [(0, 15)]);
}

#[test]
fn the_smallest_holes_are_filled_first() {
    let ranges = [(0, 10), (12, 10), (1000, 10), (1014, 6)];
    assert_eq!(merged(ranges.into_iter(), 2), [(0, 22), (1000, 20)]);
}

#[test]
fn any_number_of_ranges_fits_and_all_data_stays_in() {
    let ranges: Vec<_> = (0..1000_u64).map(|at| (at * at * 7, 3)).collect();
    for ranges_max in [0, 1, 2, 10, 999] {
        let kept = merged(ranges.iter().copied(), ranges_max);
        assert!(kept.len() <= ranges_max.max(1));
        for (offset, length) in &ranges {
            assert!(kept.iter().any(|(o, l)| o <= offset && offset + length <= o + l));
        }
        assert!(kept.is_sorted_by(|(o, l), (next, _)| o + l < *next));
    }
}
