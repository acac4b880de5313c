use chores_common::shutdown::Shutdown;

use super::super::Shown;
use super::*;
use crate::browse::tests::Fixture;

#[test]
fn devices_are_numbered_as_the_kernel_does() {
    for (major, minor) in [(0, 0), (8, 1), (259, 3), (0xfff, 0xf_ffff), (1, 256)] {
        let whole = rustix::fs::makedev(major, minor);
        assert_eq!(u64::from(device((major, minor))), whole, "{major}:{minor}");
    }
}

#[test]
fn moments_before_1970_keep_their_nanoseconds() {
    let time = |seconds, nanos| system_time(Timestamp { seconds, nanos });
    assert_eq!(time(1, 5), UNIX_EPOCH + Duration::new(1, 5));
    assert_eq!(time(-1, 999_999_999), UNIX_EPOCH - Duration::from_nanos(1));
    assert_eq!(time(-2, 0), UNIX_EPOCH - Duration::from_secs(2));
    assert!(time(i64::MIN, 0) < time(0, 0) && time(i64::MAX, 999_999_999) > time(0, 0));
}

#[test]
fn a_panic_while_somebody_is_answered_ends_the_mount() {
    let fixture = Fixture::new();
    fixture.write("file", "content");
    fixture.back_up("n", 1);
    let view = View::new(&fixture.repository, &Shown::All, (0, 0), false, &Shutdown::new());
    let answers = Answers::new(view.unwrap(), false);
    let broken = answers.view().broken().clone();
    assert!(!broken.is_requested(), "an answer alone ends it");
    let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let view = answers.view();
        assert_eq!(view.counts(), (9, 9), "on purpose");
    }));
    assert!(answered.is_err() && broken.is_requested());
}
