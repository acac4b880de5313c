use super::*;

const GB: u64 = 1 << 30;

/// Text of the last snapshot, as it lies in the store.
const KEPT: Content = Content { bytes: GB, stored: GB / 3 };

/// A run that found so much.
fn run(bytes: u64) -> Stats {
    Stats { files: 5000, bytes, ..Stats::default() }
}

/// One that stored so much noise.
fn noisy(bytes: u64) -> Stats {
    Stats { bytes_added: bytes, bytes_stored: bytes, ..run(GB) }
}

fn noise_of(bytes: u64) -> Content {
    Content { bytes, stored: bytes }
}

fn found(kept: Content, fresh: Content, usual: &[Stats], stats: &Stats) -> usize {
    let was = run(GB);
    let before = Before { id: "abcd1234", sources: &[], stats: &was };
    anomalies(before, kept, fresh, usual.iter().copied(), stats).len()
}

#[test]
fn text_that_becomes_noise_is_told() {
    assert_eq!(found(KEPT, noise_of(GB / 4), &[], &run(GB)), 1);
    assert_eq!(found(KEPT, noise_of(GB), &[run(GB), noisy(GB / 5)], &run(GB)), 1);
    // A little longer than it was, as encrypted files are.
    assert_eq!(found(KEPT, noise_of(GB), &[], &run(GB + GB / 100)), 1);
}

#[test]
fn what_happens_every_day_is_not() {
    let text = |bytes: u64| Content { bytes, stored: bytes / 3 };
    for fresh in [0, GB / 10, GB / 2, GB] {
        assert_eq!(found(KEPT, text(fresh), &[], &run(GB)), 0, "text, {fresh}");
    }
    assert_eq!(found(KEPT, noise_of(GB / 5), &[], &run(GB)), 0, "little");
    assert_eq!(found(KEPT, noise_of(GB / 2), &[], &run(GB + GB / 2)), 0, "it came beside the rest");
    assert_eq!(
        found(KEPT, noise_of(GB), &[run(GB), noisy(GB / 2)], &run(GB)),
        0,
        "it happens here"
    );
    let photographs = Content { bytes: GB, stored: GB / 10 * 9 };
    assert_eq!(found(photographs, noise_of(GB), &[], &run(GB)), 0, "photographs");
    assert_eq!(found(Content::default(), noise_of(GB), &[], &run(GB)), 0, "a new key");
    let little = Content { bytes: 15 << 20, stored: 5 << 20 };
    assert_eq!(found(little, noise_of(15 << 20), &[], &run(15 << 20)), 0, "too little to tell");
}

#[test]
fn far_more_files_are_told() {
    let found = |was, is| {
        let (was, is) = (Stats { files: was, ..run(0) }, Stats { files: is, ..run(0) });
        let before = Before { id: "abcd1234", sources: &[], stats: &was };
        anomalies(before, KEPT, Content::default(), std::iter::empty(), &is).len()
    };
    assert_eq!((found(5000, 14_999), found(5000, 15_000)), (0, 1));
    assert_eq!((found(999, 1_000_000), found(1000, 3000)), (0, 1));
}

#[test]
fn the_largest_numbers_are_compared_as_all_others() {
    let all = noise_of(u64::MAX);
    let text = Content { bytes: u64::MAX, stored: u64::MAX / 2 };
    assert_eq!(found(text, all, &[noisy(u64::MAX / 5)], &run(GB)), 1);
    assert_eq!(found(text, all, &[noisy(u64::MAX)], &run(GB)), 0);
    assert_eq!(found(text, all, &[], &run(u64::MAX)), 0);
}
