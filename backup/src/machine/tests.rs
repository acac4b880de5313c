use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn of(boot: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(BOOT_TAG.to_owned(), boot.to_owned())])
}

#[test]
fn only_what_was_made_under_another_number_since_this_boot_was_made_elsewhere() {
    let now = at("2026-11-30T14:00:00Z");
    let boot = Boot { id: "b1".to_owned(), began: at("2026-11-20T00:00:00Z") };
    let is_elsewhere = |time: &str, boot_id: &str| boot.is_elsewhere(at(time), &of(boot_id), now);
    assert!(is_elsewhere("2026-11-29T03:00:00Z", "b2"));
    assert!(!is_elsewhere("2026-11-29T03:00:00Z", "b1"), "it is ours");
    assert!(!is_elsewhere("2026-11-19T03:00:00Z", "b2"), "the boot before may have been ours");
    assert!(!is_elsewhere("2026-11-20T00:00:20Z", "b2"), "clocks are a little apart");
    assert!(!is_elsewhere("2026-11-30T15:00:00Z", "b2"), "a clock was ahead");
    assert!(!boot.is_elsewhere(at("2026-11-29T03:00:00Z"), &BTreeMap::new(), now));
}

#[test]
fn this_machine_has_a_boot_that_began_in_the_past_and_always_at_the_same_time() {
    let id = boot_id().unwrap();
    assert_eq!(boot_id(), Some(id.clone()));
    let now = Timestamp::now();
    let boot = Boot::present(&id, now).unwrap();
    assert!(boot.began <= now, "{boot:?}");
    // A clock that is set moves what was before with it.
    let hour = SignedDuration::from_hours(1);
    let later = Boot::present(&id, now + hour).unwrap();
    assert!((later.began.duration_since(boot.began) - hour).abs() <= SignedDuration::from_secs(2));
}

#[test]
fn a_number_over_the_kernels_one_lasts_as_long_as_the_first_process() {
    let plain = "22 1 0:20 / /proc/sys ro - proc proc rw\n";
    assert!(!is_masked(plain));
    let over = format!("{plain}90 22 8:1 /boot {BOOT_ID} rw - ext4 /dev/sda1 rw\n");
    assert!(is_masked(&over));
    let stat = "1 (a) b) (c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9 9\n";
    assert_eq!(start_in(stat), Some(12345));
    assert_eq!(start_in("1 (init"), None);
}

#[test]
fn a_process_that_proc_does_not_show_is_there_nevertheless() {
    assert!(matches!(see(std::process::id()), Seen::Since(start) if start > 0));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(see(child.id()), Seen::Nobody);
    assert_eq!((see(0), see(u32::MAX)), (Seen::Nobody, Seen::Nobody));
    assert_eq!(seen(None, Ok(())), Seen::Hidden);
    assert_eq!(seen(None, Err(Errno::PERM)), Seen::Hidden);
    assert_eq!(seen(None, Err(Errno::SRCH)), Seen::Nobody);
    assert_eq!(seen(Some(7), Err(Errno::PERM)), Seen::Since(7));
}
