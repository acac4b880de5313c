use super::*;

const MIB: u64 = 1 << 20;

fn budget(mib: u64, threads: usize) -> Budget {
    Budget::new(mib * MIB, threads).unwrap()
}

#[test]
fn less_than_the_least_is_refused() {
    assert_eq!(Budget::new(64 * MIB - 1, 1), None);
    assert!(Budget::new(64 * MIB, 1).is_some());
}

#[test]
fn a_machine_of_many_processors_uses_no_more_of_them_than_memory_has_room_for() {
    assert_eq!(budget(64, 64).compressing(), 1);
    assert_eq!(budget(128, 2).compressing(), 2);
    assert_eq!(budget(64, 64).uploads(), 1);
    assert_eq!(budget(128, 64).compressing(), 8);
    assert_eq!(budget(128, 64).uploads(), 1);
    assert_eq!(budget(128, 2).uploads(), 3);
    assert_eq!(budget(1024, 64).compressing(), 64);
    assert_eq!(budget(1024, 2).uploads(), 8);
}

#[test]
fn what_is_decrypted_counts_twice() {
    assert_eq!([false, true].map(|sealed| budget(64, 64).reading_packs(sealed)), [1, 1]);
    assert_eq!([false, true].map(|sealed| budget(128, 64).reading_packs(sealed)), [5, 2]);
    assert_eq!([false, true].map(|sealed| budget(128, 64).reading(sealed)), [12, 7]);
    assert_eq!([false, true].map(|sealed| budget(64, 64).reading(sealed)), [3, 1]);
    assert_eq!(budget(1024, 2).reading_packs(true), 2);
}

#[test]
fn however_much_memory_and_however_many_threads_there_are_all_together_fit() {
    for mib in 64..2048 {
        for threads in 1..=256 {
            let budget = budget(mib, threads);
            let packs = BYTES_OF_OPEN_PACKS + BYTES_PER_PACK * budget.uploads() as u64;
            let all = BASE_BYTES + BYTES_OF_COMPRESSING * budget.compressing() as u64 + packs;
            // With as little as possible the index has no room of its own.
            let least = BASE_BYTES + BYTES_OF_COMPRESSING + BYTES_OF_OPEN_PACKS + BYTES_PER_PACK;
            assert!(all <= (mib * MIB).max(least), "{mib} MiB, {threads} threads: {all} bytes");
        }
    }
}
