use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn policy(reopen: Reopen) -> Policy {
    Policy { size: Some(MIB), reopen, ..Policy::default() }
}

fn active_file() -> Active {
    Active {
        size: 2 * MIB,
        allocated: 2 * MIB,
        since: 0,
        is_forced: false,
        safe: 2 * MIB,
        held: Held::Yes,
        appends: Appends::Unknown,
        can_collapse: true,
        told: None,
        draining: 0,
        links: 1,
        is_read_only: false,
    }
}

fn old_file() -> Old {
    Old {
        size: MIB,
        allocated: MIB,
        safe: MIB,
        is_over: false,
        held: Held::Yes,
        quiet: 0,
        told: Some(0),
        tellings: 1,
        is_untold: false,
        links: 1,
    }
}

#[test]
fn a_file_is_due_by_its_size_on_disk_its_age_or_a_wish() {
    let by_size = policy(Reopen::None);
    let file = active_file();
    assert!(is_due(&by_size, &file, 1));
    assert!(!is_due(&by_size, &Active { size: MIB - 1, ..file }, 1));
    // A hole at its beginning, and room that is reserved behind its end.
    assert!(!is_due(&by_size, &Active { allocated: 8192, ..file }, 1));
    assert!(!is_due(&by_size, &Active { size: 100, allocated: 64 * MIB, ..file }, 1));
    assert!(is_due(&by_size, &Active { size: 1, is_forced: true, ..file }, 1));

    let daily = Policy { every: Some(Duration::from_secs(86_400)), ..Policy::default() };
    let day = 86_400 * SECOND;
    let file = Active { size: 1, allocated: 4096, since: 10 * day + 5, ..file };
    assert!(!is_due(&daily, &file, 11 * day - 1));
    assert!(is_due(&daily, &file, 11 * day));
    assert!(!is_due(&Policy::default(), &file, 100 * day), "nothing is set");
}

#[test]
fn each_kind_of_writer_gets_the_method_that_loses_nothing() {
    let file = active_file();
    let until = 2 * MIB - KEPT_BYTES;
    let signal = || Reopen::Signal("USR1");
    let all = Appends::All;
    for (number, (reopen, file, wanted)) in [
        // Writers that can be told.
        (signal(), Active { told: Some(1), ..file }, Act::Rename),
        (Reopen::Exec(vec!["x".into()]), Active { told: Some(3), ..file }, Act::Rename),
        (Reopen::Name, file, Act::Rename),
        // Nobody writes.
        (Reopen::None, Active { held: Held::No, ..file }, Act::Rename),
        (signal(), Active { held: Held::No, told: Some(0), ..file }, Act::Rename),
        // Writers that cannot.
        (Reopen::None, file, Act::Punch(until)),
        (Reopen::None, Active { held: Held::Unknown, ..file }, Act::Punch(until)),
        (Reopen::None, Active { appends: all, ..file }, Act::Collapse(until)),
        (Reopen::None, Active { appends: Appends::NotAll, ..file }, Act::Punch(until)),
        (Reopen::None, Active { appends: all, can_collapse: false, ..file }, Act::Punch(until)),
        // A label says how, and nothing else does.
        (Reopen::None, Active { told: Some(1), ..file }, Act::Rename),
        // Nobody who could be told, and somebody writes.
        (signal(), Active { told: Some(0), ..file }, Act::Punch(until)),
        // The engine is away: some patience.
        (signal(), Active { size: MIB, allocated: MIB, ..file }, Act::Wait(Why::EngineAway)),
        (signal(), file, Act::Punch(until)),
        // Writers that do not let go of what was renamed.
        (signal(), Active { told: Some(1), draining: DRAINING_MAX, ..file }, Act::Punch(until)),
        (Reopen::None, Active { links: 2, ..file }, Act::Wait(Why::Links)),
        (Reopen::None, Active { safe: 9000, ..file }, Act::Wait(Why::NotSafe)),
        (Reopen::None, Active { safe: 0, appends: all, ..file }, Act::Wait(Why::NotSafe)),
        (Reopen::Name, Active { is_read_only: true, ..file }, Act::Wait(Why::ReadOnly)),
        (Reopen::Name, Active { size: 0, is_forced: true, ..file }, Act::Wait(Why::Empty)),
        (Reopen::Name, Active { size: 10, ..file }, Act::Wait(Why::NotDue)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(active(&policy(reopen), &file, 1), wanted, "row {number}");
    }
}

#[test]
fn a_renamed_file_is_over_only_when_nobody_writes_and_all_of_it_is_safe() {
    let policy = policy(Reopen::Signal("USR1"));
    let file = old_file();
    let over = Old { is_over: true, held: Held::No, ..file };
    for (number, (file, wanted)) in [
        (file, OldAct::Wait),
        (Old { told: Some(TELL_AGAIN), ..file }, OldAct::Tell),
        (Old { told: Some(TELL_AGAIN), tellings: 2, ..file }, OldAct::Wait),
        (Old { told: Some(TELL_AGAIN_MAX), tellings: 1000, ..file }, OldAct::Tell),
        (Old { told: None, quiet: i64::MAX, ..file }, OldAct::Wait),
        (
            Old { size: 4 * MIB, allocated: 4 * MIB, safe: 3 * MIB, ..file },
            OldAct::Punch(3 * MIB - KEPT_BYTES),
        ),
        (Old { size: 4 * MIB, allocated: 8192, safe: 3 * MIB, ..file }, OldAct::Wait),
        (Old { held: Held::No, ..file }, OldAct::Retire),
        (Old { held: Held::Unknown, quiet: QUIET_PROOF - 1, ..file }, OldAct::Wait),
        (Old { held: Held::Unknown, quiet: QUIET_PROOF, ..file }, OldAct::Retire),
        (Old { held: Held::Unknown, quiet: QUIET_PROOF, is_untold: true, ..file }, OldAct::Wait),
        (over, OldAct::Finish),
        // Not proved: what a writer adds must be found.
        (Old { held: Held::Unknown, quiet: QUIET_PROOF, ..over }, OldAct::Keep),
        (Old { safe: MIB - 1, ..over }, OldAct::Retire),
        (Old { size: MIB + 1, ..over }, OldAct::Retire),
        (Old { held: Held::Yes, ..over }, OldAct::Wait),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(old(&policy, &file), wanted, "row {number}");
    }
}

#[test]
fn a_collapse_is_forgotten_when_nobody_could_need_to_know_of_it() {
    let (shift, length, is_over, is_idle) = (8192, 4096, false, true);
    let begins = Begins::After;
    let none = Collapsing { shift, length, known: shift, is_over, begins, is_idle };
    let done = Collapsing { known: shift + length, ..none };
    let before = Begins::Before;
    for (number, (collapse, wanted)) in [
        // The log has not heard of it.
        (none, false),
        (done, true),
        (Collapsing { begins: Begins::Nowhere, ..done }, true),
        // The power failed: the log is to hear of the old places.
        (Collapsing { begins: before, ..done }, false),
        // It did not happen, and will not.
        (Collapsing { begins: before, ..none }, true),
        (Collapsing { begins: before, is_idle: false, ..none }, false),
        // Another program cut the file before the log heard of anything: its first cursor is of a file from which
        // nothing was taken, and that may be just what was there before.
        (Collapsing { begins: Begins::Otherwise, ..none }, true),
        (Collapsing { begins: Begins::Otherwise, shift: 0, known: 0, ..none }, true),
        (Collapsing { begins: Begins::Otherwise, is_idle: false, ..none }, false),
        (Collapsing { known: 0, ..none }, true),
        (Collapsing { is_over: true, ..none }, true),
        (Collapsing { begins: Begins::Nowhere, ..none }, false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(is_collapse_over(&collapse), wanted, "row {number}");
    }
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![Just(Held::Yes), Just(Held::No), Just(Held::Unknown)]
}

fn reopen() -> impl Strategy<Value = Reopen> {
    prop_oneof![
        Just(Reopen::None),
        Just(Reopen::Name),
        Just(Reopen::Signal("HUP")),
        Just(Reopen::Exec(vec!["true".to_owned()])),
    ]
}

proptest! {
    #[test]
    fn nothing_is_taken_away_that_is_not_safe(
        size in 0_u64..40 * MIB,
        allocated in 0_u64..40 * MIB,
        safe in 0_u64..50 * MIB,
        held in held(),
        appends in prop_oneof![Just(Appends::All), Just(Appends::NotAll), Just(Appends::Unknown)],
        can_collapse: bool,
        told in proptest::option::of(0_usize..3),
        draining in 0_usize..20,
        is_forced: bool,
        is_read_only: bool,
        links in 1_u32..3,
        reopen in reopen(),
    ) {
        let file = Active {
            size, allocated, since: 0, is_forced, safe, held, appends, can_collapse, told, draining,
            links, is_read_only,
        };
        match active(&policy(reopen), &file, 1) {
            Act::Wait(_) => {}
            Act::Rename => prop_assert!(size > 0 && !is_read_only && draining < DRAINING_MAX),
            Act::Collapse(length) => {
                prop_assert!(length + KEPT_BYTES <= safe.min(size));
                prop_assert!(length > 0 && length.is_multiple_of(BLOCK_BYTES));
                prop_assert!(appends == Appends::All && can_collapse && links == 1 && !is_read_only);
            }
            Act::Punch(until) => {
                prop_assert!(until + KEPT_BYTES <= safe.min(size));
                prop_assert!(until > BLOCK_BYTES && until.is_multiple_of(BLOCK_BYTES));
                prop_assert!(links == 1 && !is_read_only);
            }
        }
    }

    /// A model of one rotation: a writer that is told lets go at some time, the log follows. Whatever the order, it
    /// ends, and not before everything is safe.
    #[test]
    fn every_rotation_ends_once_its_writers_let_go(
        deaf in 0_u32..6,
        steps in proptest::collection::vec(0_u64..300_000, 1..40),
        can_lease: bool,
    ) {
        let policy = policy(Reopen::Signal("USR1"));
        let mut file = Old { size: 0, allocated: 0, safe: 0, ..old_file() };
        let (mut clock, mut told_at, mut changed_at) = (0_i64, 0_i64, 0_i64);
        let mut is_held = true;
        let mut steps = steps.into_iter();
        for _ in 0..1000 {
            clock += SECOND;
            if is_held {
                let more = steps.next().unwrap_or(1);
                file.size += more;
                file.allocated = file.size;
                changed_at = clock;
            }
            let lease = if is_held { Held::Yes } else { Held::No };
            file.held = if can_lease { lease } else { Held::Unknown };
            file.quiet = clock - changed_at;
            file.told = Some(clock - told_at);
            match old(&policy, &file) {
                OldAct::Wait => file.safe = file.size,
                OldAct::Punch(until) => {
                    prop_assert!(until + KEPT_BYTES <= file.safe);
                    file.allocated = file.size - until;
                }
                OldAct::Tell => {
                    file.tellings += 1;
                    told_at = clock;
                }
                OldAct::Retire => {
                    prop_assert!(!is_held);
                    file.safe = file.size;
                    file.is_over = true;
                }
                OldAct::Finish => {
                    prop_assert!(can_lease && !is_held && file.is_over && file.safe == file.size);
                    return Ok(());
                }
                OldAct::Keep => {
                    prop_assert!(!can_lease && file.is_over && file.safe == file.size);
                    return Ok(());
                }
            }
            is_held &= if can_lease { file.tellings <= deaf } else { clock < 20 * SECOND };
        }
        prop_assert!(false, "it never ended");
    }
}
