use super::*;

const GB: u64 = 1 << 30;

/// Text of the last snapshot, as it lies in the store.
const KEPT: Content = Content { bytes: GB, stored: GB / 3 };

const NOTHING: Content = Content { bytes: 0, stored: 0 };

/// A run that found a gigabyte, and so much of it new.
fn run(added: u64) -> Stats {
    Stats {
        files: 5000,
        bytes: GB,
        bytes_added: added,
        bytes_stored: added / 3,
        ..Stats::default()
    }
}

fn text_of(bytes: u64) -> Content {
    Content { bytes, stored: bytes / 3 }
}

fn noise_of(bytes: u64) -> Content {
    Content { bytes, stored: bytes }
}

fn count(kept: Content, fresh: Content, usual: &[Stats]) -> usize {
    let was = run(0);
    let before = Before { id: "abcd1234", sources: &[], stats: &was };
    anomalies(before, kept, fresh, usual, &run(fresh.bytes)).len()
}

#[test]
fn an_ordinary_night_is_like_the_last_ones() {
    let usual = [run(GB / 100); USUAL_RUNS];
    for fresh in [0, GB / 10, GB / 3, GB / 2 - 1] {
        assert_eq!(count(KEPT, text_of(fresh), &usual), 0, "{fresh}");
    }
}

#[test]
fn noise_where_was_text_is_told() {
    assert_eq!(count(KEPT, noise_of(GB / 4), &[]), 1);
    // New photographs among many files are no more than that.
    assert_eq!(count(KEPT, noise_of(GB / 5), &[]), 0);
    assert_eq!(count(KEPT, Content { bytes: GB / 4, stored: GB / 4 / 10 * 9 }, &[]), 0);
    // Of a store of photographs nothing else is to be expected.
    assert_eq!(count(Content { bytes: GB, stored: GB / 10 * 9 }, noise_of(GB / 4), &[]), 0);
    // A new key has everything stored again.
    assert_eq!(count(NOTHING, noise_of(GB), &[]), 0);
    // Little of anything tells nothing.
    let little = Stats { bytes: 1 << 20, ..run(1 << 20) };
    let before = Before { id: "abcd1234", sources: &[], stats: &little };
    assert!(anomalies(before, KEPT, noise_of(1 << 20), &[], &little).is_empty());
}

#[test]
fn all_new_at_once_is_told_where_it_is_unusual() {
    let quiet = [run(GB / 100); USUAL_RUNS];
    assert_eq!(count(KEPT, text_of(GB / 2), &quiet), 1);
    assert_eq!(count(KEPT, text_of(GB / 2), &quiet[1..]), 0, "too few to know");
    let mut rotated = quiet;
    rotated[1] = run(GB / 3);
    assert_eq!(count(KEPT, text_of(GB / 2), &rotated), 0, "it happens here");
    assert_eq!(count(NOTHING, text_of(GB), &quiet), 0, "a new key");
    assert_eq!(count(KEPT, noise_of(GB), &quiet), 2);
}

#[test]
fn far_more_files_are_told() {
    let found = |was, is| {
        let (was, is) = (Stats { files: was, ..run(0) }, Stats { files: is, ..run(0) });
        let before = Before { id: "abcd1234", sources: &[], stats: &was };
        anomalies(before, KEPT, NOTHING, &[], &is).len()
    };
    assert_eq!((found(5000, 14_999), found(5000, 15_000)), (0, 1));
    assert_eq!((found(100, 1099), found(100, 1100)), (0, 1));
    assert_eq!(found(0, 1_000_000), 0, "nothing was there");
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let huge = Stats {
        files: u64::MAX,
        bytes: u64::MAX,
        bytes_added: u64::MAX,
        bytes_stored: u64::MAX,
        ..Stats::default()
    };
    let before = Before { id: "abcd1234", sources: &[], stats: &huge };
    let all = noise_of(u64::MAX);
    assert!(anomalies(before, all, all, &[huge; USUAL_RUNS], &huge).is_empty());
}
