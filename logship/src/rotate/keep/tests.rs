use std::time::Duration;

use super::*;
use crate::time::SECOND;

#[test]
fn the_oldest_go_by_number_age_and_bytes_whichever_asks_for_more() {
    let kept: Vec<Kept> = (1..=5).map(|n| Kept { bytes: 10, rotated: n * SECOND }).collect();
    let now = 6 * SECOND;
    let none = Keep::default();
    for (keep, wanted) in [
        (none, 0),
        (Keep { count: Some(5), ..none }, 0),
        (Keep { count: Some(2), ..none }, 3),
        (Keep { count: Some(0), ..none }, 5),
        (Keep { age: Some(Duration::from_secs(3)), ..none }, 2),
        (Keep { age: Some(Duration::from_secs(100)), ..none }, 0),
        (Keep { bytes: Some(50), ..none }, 0),
        (Keep { bytes: Some(49), ..none }, 1),
        (Keep { bytes: Some(15), ..none }, 4),
        (Keep { bytes: Some(0), ..none }, 5),
        (Keep { count: Some(4), age: Some(Duration::from_secs(3)), bytes: Some(25) }, 3),
    ] {
        let all: Vec<(Kept, Keep)> = kept.iter().map(|kept| (*kept, keep)).collect();
        let goes: Vec<bool> = (0..kept.len()).map(|number| number < wanted).collect();
        assert_eq!(excess(&all, now), goes, "{keep:?}");
    }
    assert_eq!(excess(&[], now), [false; 0]);
}

#[test]
fn each_file_goes_by_what_is_said_of_it() {
    let keep = |count| Keep { count: Some(count), ..Keep::default() };
    let of = |count| (Kept { bytes: 1, rotated: 1 }, keep(count));
    // Those of a container that is gone, whose label let more of them stay.
    assert_eq!(excess(&[of(4), of(4), of(1), of(1)], 2), [false, false, true, false]);
    assert_eq!(excess(&[of(3), of(3), of(3), of(3)], 2), [true, false, false, false]);
}
