use proptest::prelude::*;

use super::*;

fn admission(startups: (u32, u32, u32), startups_per_source: u32) -> Admission {
    Admission::new(&Limits {
        login_grace_seconds: 30,
        startups,
        startups_per_source,
        auth_attempts: 6,
        sessions: 10,
        channels: 64,
        listeners: 8,
        spool_bytes: 1 << 30,
        keepalive_seconds: 0,
        keepalive_count: 0,
        idle_seconds: 0,
    })
}

fn source(number: u32) -> Source {
    Source::V4(Ipv4Addr::from_bits(number))
}

#[test]
fn a_source_is_an_address_or_a_network() {
    let of = |address: &str| Source::from(address.parse::<IpAddr>().unwrap());
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
}

#[test]
fn more_and_more_are_refused_between_begin_and_full() {
    let now = Instant::now();
    let mut admission = admission((10, 30, 100), 1000);
    let odds_at = |admission: &mut Admission, startups: u32| {
        while admission.startups < startups {
            admission.enter(now, source(admission.startups), 99).unwrap();
        }
        admission.odds()
    };
    for (startups, odds) in [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99)] {
        assert_eq!(odds_at(&mut admission, startups), odds, "{startups}");
    }
    admission.leave(source(0));
    admission.startups = 100;
    assert_eq!(admission.enter(now, source(7), 99), Err(Refused::Startups));
    // The boundaries of chance.
    admission.startups = 10;
    assert_eq!(admission.enter(now, source(7), 29), Err(Refused::Startups));
    assert_eq!(admission.enter(now, source(7), 30), Ok(()));
}

#[test]
fn begin_and_full_may_be_the_same_or_wrong() {
    let now = Instant::now();
    let mut same = admission((2, 100, 2), 1000);
    same.enter(now, source(1), 0).unwrap();
    same.enter(now, source(2), 0).unwrap();
    assert_eq!(same.enter(now, source(3), 99), Err(Refused::Startups));
    let mut wrong = admission((10, 30, 1), 1000);
    wrong.enter(now, source(1), 0).unwrap();
    assert_eq!(wrong.enter(now, source(2), 99), Err(Refused::Startups));
}

#[test]
fn one_source_cannot_take_all_places() {
    let now = Instant::now();
    let mut admission = admission((50, 30, 100), 2);
    admission.enter(now, source(1), 0).unwrap();
    admission.enter(now, source(1), 0).unwrap();
    assert_eq!(admission.enter(now, source(1), 99), Err(Refused::Source));
    admission.enter(now, source(2), 0).unwrap();
    admission.leave(source(1));
    admission.enter(now, source(1), 0).unwrap();
}

#[test]
fn penalties_add_up_are_enforced_and_forgiven() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut admission = admission((50, 30, 100), 10);
    // Two failures are 10 seconds: below the least that is enforced.
    admission.punish(at(0), source(1), Offence::Failed);
    admission.punish(at(0), source(1), Offence::Failed);
    assert_eq!(admission.enter(at(1), source(1), 0), Ok(()));
    admission.punish(at(1), source(1), Offence::Failed);
    // Fifteen from the beginning are fourteen now.
    assert_eq!(admission.enter(at(1), source(1), 0), Ok(()));
    admission.punish(at(1), source(1), Offence::NoAttempt);
    assert_eq!(admission.enter(at(1), source(1), 0), Err(Refused::Penalty));
    assert_eq!(admission.enter(at(1), source(2), 0), Ok(()));
    assert_eq!(admission.enter(at(15), source(1), 0), Err(Refused::Penalty));
    assert_eq!(admission.enter(at(16), source(1), 0), Ok(()));
    // A crash is enforced at once, and no penalty is longer than ten minutes.
    for _ in 0..20 {
        admission.punish(at(20), source(3), Offence::Crash);
    }
    assert_eq!(admission.enter(at(20 + 599), source(3), 0), Err(Refused::Penalty));
    assert_eq!(admission.enter(at(20 + 600), source(3), 0), Ok(()));
}

#[test]
fn the_memory_of_penalties_is_bounded() {
    let now = Instant::now();
    let mut admission = admission((50, 30, 100), 10);
    admission.sources_max = 3;
    admission.punish(now, source(1), Offence::Crash);
    for number in 2..100 {
        admission.punish(now, source(number), Offence::Failed);
    }
    assert_eq!((admission.penalties.len(), admission.by_end.len()), (3, 3));
    // The heaviest is kept.
    assert_eq!(admission.enter(now, source(1), 0), Err(Refused::Penalty));
}

proptest! {
    #[test]
    fn the_books_balance(acts in prop::collection::vec((0_u8..4, 0_u32..5, 0_u32..100, 0_u64..30), 0..200)) {
        let start = Instant::now();
        let mut seconds = 0;
        let mut admission = admission((5, 30, 10), 3);
        admission.sources_max = 4;
        let mut inside = Vec::new();
        for (act, number, dice, later) in acts {
            seconds += later;
            let now = start + Duration::from_secs(seconds);
            match act {
                0 | 1 => if admission.enter(now, source(number), dice).is_ok() {
                    inside.push(number);
                },
                2 => if let Some(number) = inside.pop() {
                    admission.leave(source(number));
                },
                _ => admission.punish(now, source(number), Offence::Grace),
            }
            prop_assert_eq!(admission.startups as usize, inside.len());
            prop_assert!(admission.startups <= 10);
            prop_assert!(admission.by_source.values().all(|count| (1..=3).contains(count)));
            prop_assert_eq!(admission.penalties.len(), admission.by_end.len());
            prop_assert!(admission.penalties.len() <= 4);
        }
    }
}
