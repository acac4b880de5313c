use std::time::UNIX_EPOCH;

use super::*;
use crate::repository::tests::TestRepository;

fn versions(told: &[(&str, &str)]) -> Vec<ObjectVersion> {
    let of = |(number, (key, content)): (usize, &(&str, &str))| ObjectVersion {
        key: (*key).to_owned(),
        version: format!("v{number}"),
        is_latest: told.get(number + 1).is_none_or(|(next, _)| next != key),
        is_marker: content.is_empty(),
        size: 1,
        modified: UNIX_EPOCH + Duration::from_secs(number as u64),
        tag: (!content.is_empty()).then(|| (*content).to_owned()),
    };
    told.iter().enumerate().map(of).collect()
}

#[test]
fn the_original_of_a_pack_is_the_oldest_version_that_another_one_hides() {
    let versions = versions(&[
        ("packs/once", "a"),
        ("packs/hidden", "a"),
        ("packs/hidden", ""),
        ("packs/over", "a"),
        ("packs/over", "b"),
        ("packs/over", "c"),
        ("packs/retried", "a"),
        ("packs/retried", "a"),
        ("packs/shown", "a"),
        ("packs/shown", ""),
        ("packs/shown", "b"),
    ]);
    let found = originals(&versions);
    let mut told: Vec<_> = found
        .iter()
        .map(|(key, original)| (*key, original.version.version.as_str(), original.is_same))
        .collect();
    told.sort_unstable();
    let wanted = [
        ("packs/over", "v3", None),
        ("packs/retried", "v6", Some(true)),
        ("packs/shown", "v8", None),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn the_time_of_a_store_is_not_reckoned_on_for_long() {
    let told = UNIX_EPOCH + Duration::from_secs(1000);
    let at = |instant, system| StoreTime { told, instant, system }.now();
    let (now, system) = (Instant::now(), SystemTime::now());
    assert!(at(now, system).is_some_and(|time| time >= told));
    let hour = Duration::from_secs(3600);
    // Suspended meanwhile, or set forwards.
    assert_eq!(at(now, system - hour), None);
    // Set back.
    assert_eq!(at(now, system + hour), None);
}

#[test]
fn a_pack_is_written_over_when_its_content_is_another_one_whatever_the_store_calls_it() {
    let test = TestRepository::new();
    let bytes = b"what a pack holds".to_vec();
    let pack = PackId(test.repository.key().id_of(&bytes));
    let key = test.repository.pack_key(&pack);
    test.repository.put_pack(&pack, bytes.clone()).unwrap();
    let over = |tags: [&str; 2], sizes: [u64; 2]| {
        let mut versions = versions(&[(&key, tags[0]), (&key, tags[1])]);
        versions.iter_mut().zip(sizes).for_each(|(version, size)| version.size = size);
        test.repository.packs_written_over(&versions)
    };
    // As of an upload that was tried twice, and of one that a store encrypted with two keys.
    assert_eq!((over(["a", "a"], [9, 9]), over(["a", "b"], [9, 9])), (0, 0));
    assert_eq!(over(["a", "a"], [9, 8]), 1);
    let mut other = bytes;
    other.reverse();
    std::fs::write(test.path().join(&key), other).unwrap();
    assert_eq!((over(["a", "a"], [9, 9]), over(["a", "b"], [9, 9])), (0, 1));
    std::fs::remove_file(test.path().join(&key)).unwrap();
    assert_eq!(over(["a", "b"], [9, 9]), 1);
    // What the store does not give says nothing: here, a loop of links.
    std::os::unix::fs::symlink(test.path().join(&key), test.path().join(&key)).unwrap();
    assert_eq!(over(["a", "b"], [9, 9]), 0);
}

#[test]
fn what_a_probe_writes_is_known_by_its_name() {
    for prefix in ["doctor/", "doctor-"] {
        assert!(is_probe(&format!("{prefix}00112233445566778899aabbccddeeff")), "{prefix}");
    }
    for key in
        ["doctor/x", "doctor-x", "doctor", "packs/00112233445566778899aabbccddeeff", "doctor/"]
    {
        assert!(!is_probe(key), "{key}");
    }
}
