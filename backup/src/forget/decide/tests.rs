use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkId;

const DAYS: i64 = DAY_SECONDS;

fn id(number: usize) -> SnapshotId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SnapshotId(ChunkId(bytes))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn candidate(number: usize, time: &str) -> Candidate {
    Candidate {
        id: id(number),
        name: "db".to_owned(),
        host: "web1".to_owned(),
        time: at(time),
        standing: Standing::Proved,
        is_of_dumps_only: false,
        tags: BTreeMap::new(),
    }
}

/// One a day at 02:00, the last on `last`, oldest first.
fn nightly(last: &str, count: usize) -> Vec<Candidate> {
    let last = at(last);
    (0..count)
        .map(|number| {
            let back = (count - 1 - number) as i64 * DAYS;
            let time = Timestamp::from_second(last.as_second() - back).unwrap();
            candidate(number, &time.to_string())
        })
        .collect()
}

fn now() -> Timestamp {
    at("2026-11-30T12:00:00Z")
}

fn kept(candidates: &[Candidate], policy: &Policy) -> BTreeSet<usize> {
    decide(candidates, policy, now())
        .iter()
        .flat_map(|source| &source.verdicts)
        .filter(|verdict| verdict.stays())
        .map(|verdict| verdict.candidate)
        .collect()
}

fn kept_times(candidates: &[Candidate], policy: &Policy) -> Vec<String> {
    let mut kept: Vec<_> =
        kept(candidates, policy).into_iter().map(|n| candidates[n].time).collect();
    kept.sort_unstable();
    kept.iter().rev().map(|time| time.strftime("%Y-%m-%d").to_string()).collect()
}

#[test]
fn the_usual_rules_keep_what_their_names_say() {
    let nights = nightly("2026-11-30T02:00:00Z", 500);
    let policy = Policy { daily: 3, weekly: 2, monthly: 3, yearly: 2, ..Policy::default() };
    assert_eq!(
        kept_times(&nights, &policy),
        // 2026-11-29 is a Sunday: the newest of the week before.
        ["2026-11-30", "2026-11-29", "2026-11-28", "2026-10-31", "2026-09-30", "2025-12-31"]
    );
}

#[test]
fn of_several_in_one_period_the_newest_stays() {
    let candidates: Vec<_> = ["T01:10:00Z", "T01:50:00Z", "T02:20:00Z", "T02:59:59Z", "T03:00:00Z"]
        .iter()
        .enumerate()
        .map(|(number, time)| candidate(number, &format!("2026-11-29{time}")))
        .collect();
    let policy = Policy { hourly: 2, ..Policy::default() };
    assert_eq!(kept(&candidates, &policy), BTreeSet::from([4, 3]));
    let policy = Policy { daily: 5, ..Policy::default() };
    assert_eq!(kept(&candidates, &policy), BTreeSet::from([4]));
    let policy = Policy { last: 3, ..Policy::default() };
    assert_eq!(kept(&candidates, &policy), BTreeSet::from([4, 3, 2]));
}

#[test]
fn ages_are_counted_from_the_newest_so_a_source_that_ended_loses_nothing_more() {
    // Nothing was saved for three years.
    let nights = nightly("2023-11-30T02:00:00Z", 40);
    let policy =
        Policy { within: Some(Duration::from_secs(10 * DAYS as u64)), ..Policy::default() };
    assert_eq!(kept(&nights, &policy).len(), 11);
}

#[test]
fn a_source_whose_newest_snapshot_is_suspicious_is_frozen_until_a_good_one_follows() {
    let mut nights = nightly("2026-11-30T02:00:00Z", 10);
    nights[9].standing = Standing::Suspicious;
    let policy = Policy { last: 1, ..Policy::default() };
    let decided = decide(&nights, &policy, now());
    assert_eq!(decided[0].frozen, Some(Freeze::Suspicious(id(9))));
    assert_eq!(kept(&nights, &policy).len(), 10);
    let way_out = decided[0].frozen.as_ref().unwrap().to_string();
    assert!(way_out.contains("--allow-change") && way_out.contains("backup forget"), "{way_out}");

    // A failed one behind it changes nothing.
    nights.push(Candidate { standing: Standing::Failed, ..candidate(10, "2026-11-30T03:00:00Z") });
    assert_eq!(kept(&nights, &policy).len(), 11);
    // Nor does a dump of the same name; a suspicious one freezes by itself.
    let dump = candidate(11, "2026-11-30T03:30:00Z");
    let emptied = Candidate {
        is_of_dumps_only: true,
        standing: Standing::Suspicious,
        ..candidate(11, "2026-11-30T03:30:00Z")
    };
    let sound = [candidate(0, "2026-11-01T02:00:00Z"), candidate(1, "2026-11-02T02:00:00Z")];
    let with = [&sound[..], &[emptied]].concat();
    assert_eq!((kept(&sound, &policy).len(), kept(&with, &policy).len()), (1, 3));
    nights.push(Candidate { is_of_dumps_only: true, ..dump });
    assert_eq!(kept(&nights, &policy).len(), 12);
    nights.push(candidate(12, "2026-11-30T04:00:00Z"));
    // The new one, and for inspection the suspicious and the failed one.
    assert_eq!(kept(&nights, &policy), BTreeSet::from([9, 10, 12]));
}

#[test]
fn what_counts_for_nothing_goes_a_week_before_a_newer_proved_one() {
    let policy = Policy { last: 5, ..Policy::default() };
    for standing in [Standing::Failed, Standing::Unproved, Standing::Incomplete] {
        let mut candidates = vec![
            Candidate { standing, ..candidate(0, "2026-11-10T02:00:00Z") },
            candidate(1, "2026-11-09T02:00:00Z"),
            Candidate { standing, ..candidate(2, "2026-11-20T02:00:00Z") },
        ];
        // No proved one is newer than 0 and 2.
        assert_eq!(kept(&candidates, &policy), BTreeSet::from([0, 1, 2]));
        candidates.push(candidate(3, "2026-11-21T02:00:00Z"));
        assert_eq!(kept(&candidates, &policy), BTreeSet::from([1, 2, 3]));
    }
}

#[test]
fn a_source_of_which_nothing_is_proved_keeps_all() {
    let mut nights = nightly("2026-11-30T02:00:00Z", 30);
    for (number, night) in nights.iter_mut().enumerate() {
        night.standing = if number % 2 == 0 { Standing::Unproved } else { Standing::Failed };
    }
    assert_eq!(kept(&nights, &Policy { last: 1, ..Policy::default() }).len(), 30);
}

#[test]
fn a_wrong_clock_freezes_its_source() {
    let mut nights = nightly("2026-11-30T02:00:00Z", 30);
    nights.push(candidate(30, "2099-01-01T00:00:00Z"));
    let policy = Policy { within: Some(Duration::from_secs(DAYS as u64)), ..Policy::default() };
    let decided = decide(&nights, &policy, now());
    assert_eq!(decided[0].frozen, Some(Freeze::Future(id(30))));
    assert_eq!(kept(&nights, &policy).len(), 31);
    // Hours are the skew of clocks that nobody keeps.
    nights[30].time = at("2026-12-01T02:00:00Z");
    assert!(decide(&nights, &policy, now())[0].frozen.is_none());
}

#[test]
fn hosts_that_take_turns_in_one_name_freeze_it_until_somebody_says_what_it_is() {
    let mut nights = nightly("2026-11-30T02:00:00Z", 20);
    let policy = |group_by| Policy { last: 1, group_by, ..Policy::default() };
    // Throw-away containers: another host every night. That is one source.
    for (number, night) in nights.iter_mut().enumerate() {
        night.host = format!("container{number}");
    }
    assert_eq!(kept(&nights, &policy(GroupBy::Unsaid)), BTreeSet::from([19]));
    // A machine that was replaced.
    for (number, night) in nights.iter_mut().enumerate() {
        night.host = if number < 10 { "old" } else { "new" }.to_owned();
    }
    assert_eq!(kept(&nights, &policy(GroupBy::Unsaid)), BTreeSet::from([19]));
    // Two machines.
    for (number, night) in nights.iter_mut().enumerate() {
        night.host = format!("web{}", number % 2);
    }
    let decided = decide(&nights, &policy(GroupBy::Unsaid), now());
    assert!(matches!(decided[0].frozen, Some(Freeze::Hosts(..))));
    assert_eq!(kept(&nights, &policy(GroupBy::Unsaid)).len(), 20);
    assert_eq!(kept(&nights, &policy(GroupBy::Host)), BTreeSet::from([18, 19]));
    assert_eq!(kept(&nights, &policy(GroupBy::Name)), BTreeSet::from([19]));
}

#[test]
fn weeks_begin_on_monday_and_years_in_january() {
    // A Sunday and the Monday behind it; the last day of a year and the first of the next.
    let candidates: Vec<_> = [
        "2024-12-29T23:59:59Z",
        "2024-12-30T00:00:00Z",
        "2024-12-31T23:59:59Z",
        "2025-01-01T00:00:00Z",
    ]
    .iter()
    .enumerate()
    .map(|(number, time)| candidate(number, time))
    .collect();
    assert_eq!(
        kept(&candidates, &Policy { weekly: 9, ..Policy::default() }),
        BTreeSet::from([0, 3])
    );
    assert_eq!(
        kept(&candidates, &Policy { yearly: 9, ..Policy::default() }),
        BTreeSet::from([2, 3])
    );
    assert_eq!(
        kept(&candidates, &Policy { monthly: 9, ..Policy::default() }),
        BTreeSet::from([2, 3])
    );
    // Before the epoch, as a machine without a clock says.
    let old = [candidate(0, "1969-12-31T23:00:00Z"), candidate(1, "1970-01-01T00:00:00Z")];
    assert_eq!(kept(&old, &Policy { daily: 9, ..Policy::default() }).len(), 2);
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        6 => Just(Standing::Proved),
        1 => Just(Standing::Suspicious),
        1 => Just(Standing::Unproved),
        1 => Just(Standing::Incomplete),
        1 => Just(Standing::Failed),
    ]
}

fn some_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0..3_u8, 0..2_u8, 0..900_i64 * DAYS, standing(), 0..8_u8);
    proptest::collection::vec(one, 0..60).prop_map(|all| {
        let newest = now().as_second();
        all.into_iter()
            .enumerate()
            .map(|(number, (name, host, back, standing, tag))| Candidate {
                id: id(number),
                name: format!("source{name}"),
                host: format!("host{host}"),
                time: Timestamp::from_second(newest - back).unwrap(),
                standing,
                is_of_dumps_only: tag == 7,
                tags: BTreeMap::from([("tag".to_owned(), tag.to_string())]),
            })
            .collect()
    })
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![Just(0_u32), 0..20_u32];
    let within = proptest::option::of(0..400_u64);
    let group = prop_oneof![Just(GroupBy::Unsaid), Just(GroupBy::Name), Just(GroupBy::Host)];
    let counts = (count(), count(), count(), count(), count(), count());
    (counts, within, group, any::<bool>()).prop_map(
        |((last, hourly, daily, weekly, monthly, yearly), within, group_by, tagged)| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(|days| Duration::from_secs(days * DAYS as u64)),
            tags: if tagged { vec![("tag".to_owned(), "3".to_owned())] } else { Vec::new() },
            group_by,
            boot: None,
        },
    )
}

proptest! {
    #[test]
    fn the_newest_proved_of_every_source_stays_and_nothing_is_judged_twice(
        candidates in some_candidates(),
        policy in some_policy(),
    ) {
        let decided = decide(&candidates, &policy, now());
        let judged: Vec<_> =
            decided.iter().flat_map(|source| &source.verdicts).map(|v| v.candidate).collect();
        prop_assert_eq!(judged.len(), candidates.len());
        prop_assert_eq!(judged.iter().collect::<BTreeSet<_>>().len(), candidates.len());
        let kept: BTreeSet<_> =
            kept(&candidates, &policy).iter().map(|n| candidates[*n].id).collect();
        prop_assert!(newest_proved(&candidates, policy.group_by).is_subset(&kept));
    }

    #[test]
    fn what_counts_for_nothing_changes_nothing_for_what_counts(
        candidates in some_candidates(),
        policy in some_policy(),
    ) {
        // Nothing frozen: a suspicious one or a host may freeze, which is another rule.
        let policy = Policy { group_by: GroupBy::Name, ..policy };
        let candidates: Vec<_> =
            candidates.into_iter().filter(|c| c.standing != Standing::Suspicious).collect();
        let proved: Vec<_> =
            candidates.iter().filter(|c| c.standing == Standing::Proved).cloned().collect();
        let ids = |all: &[Candidate]| -> BTreeSet<SnapshotId> {
            kept(all, &policy)
                .iter()
                .map(|n| &all[*n])
                .filter(|c| c.standing == Standing::Proved)
                .map(|c| c.id)
                .collect()
        };
        prop_assert_eq!(ids(&candidates), ids(&proved));
    }

    #[test]
    fn a_second_run_drops_nothing_more(
        candidates in some_candidates(),
        policy in some_policy(),
    ) {
        let stayed: Vec<_> =
            kept(&candidates, &policy).iter().map(|n| candidates[*n].clone()).collect();
        let again = kept(&stayed, &policy);
        // Dropping may end a freeze by hosts, or what hosts took turns in; never anything else.
        if policy.group_by != GroupBy::Unsaid {
            prop_assert_eq!(again.len(), stayed.len());
        }
    }

    #[test]
    fn more_of_a_rule_never_keeps_less(
        candidates in some_candidates(),
        policy in some_policy(),
        more in 0..6_usize,
    ) {
        let mut wider = policy.clone();
        let counts = [
            &mut wider.last,
            &mut wider.hourly,
            &mut wider.daily,
            &mut wider.weekly,
            &mut wider.monthly,
            &mut wider.yearly,
        ];
        for (number, count) in counts.into_iter().enumerate() {
            if number == more {
                *count += 3;
            }
        }
        prop_assert!(kept(&candidates, &policy).is_subset(&kept(&candidates, &wider)));
    }

    #[test]
    fn the_order_of_the_listing_does_not_matter(
        candidates in some_candidates(),
        policy in some_policy(),
        seed in any::<u64>(),
    ) {
        let ids = |all: &[Candidate]| -> BTreeSet<SnapshotId> {
            kept(all, &policy).iter().map(|n| all[*n].id).collect()
        };
        let mut shuffled = candidates.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(ids(&candidates), ids(&shuffled));
    }

    #[test]
    fn a_frozen_source_loses_nothing(
        candidates in some_candidates(),
        policy in some_policy(),
    ) {
        for source in decide(&candidates, &policy, now()) {
            if source.frozen.is_some() {
                prop_assert!(source.verdicts.iter().all(Verdict::stays));
            }
            let first = source
                .verdicts
                .iter()
                .map(|v| &candidates[v.candidate])
                .filter(|candidate| !candidate.is_of_dumps_only)
                .map(|candidate| candidate.standing)
                .find(|s| matches!(s, Standing::Proved | Standing::Suspicious));
            prop_assert!(first != Some(Standing::Suspicious) || source.frozen.is_some());
        }
    }
}
