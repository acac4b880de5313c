use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn at(days: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * (20_000 + days)
}

fn locked(mode: &str, days: u32) -> Option<Retention> {
    Some(Retention { mode: mode.to_owned(), until: at(days) })
}

fn ids(versions: &Versions, key: &str) -> Vec<String> {
    versions.all.get(key).into_iter().flatten().map(|version| version.id.clone()).collect()
}

#[test]
fn a_deleted_object_is_hidden_and_shows_again_without_its_marker() {
    let mut versions = Versions::new(Locks::Kept);
    versions.put("key", Bytes::from_static(b"content"), at(0), locked("COMPLIANCE", 9));
    versions.delete("key", None, at(1)).unwrap();
    assert!(versions.current("key").is_none());
    assert!(versions.head("key", None).is_err());
    let marker = ids(&versions, "key").pop().unwrap();
    versions.delete("key", Some(&marker), at(1)).unwrap();
    assert_eq!(versions.current("key").unwrap().bytes, "content");
}

#[test]
fn a_locked_version_goes_when_its_lock_is_over_and_not_before() {
    let mut versions = Versions::new(Locks::Kept);
    versions.put("key", Bytes::new(), at(0), locked("GOVERNANCE", 9));
    let [id] = &ids(&versions, "key")[..] else { panic!("there is one") };
    assert!(versions.delete("key", Some(id), at(8)).is_err());
    versions.delete("key", Some(id), at(9)).unwrap();
    assert!(versions.all.is_empty());
}

#[test]
fn a_lock_needs_a_checksum_a_time_to_come_and_a_bucket_that_has_locks() {
    let wanted = |locks, days, has_checksum| {
        Versions::new(locks).wanted("COMPLIANCE", &at(days).into(), has_checksum, at(5))
    };
    assert_eq!(wanted(Locks::Kept, 9, true).unwrap(), locked("COMPLIANCE", 9));
    assert!(wanted(Locks::Kept, 9, false).is_err());
    assert!(wanted(Locks::Kept, 5, true).is_err());
    assert!(wanted(Locks::Off, 9, true).is_err());
    assert_eq!(wanted(Locks::Ignored, 9, true).unwrap(), None);
}

#[test]
fn versions_come_in_pages_with_the_latest_of_a_key_first() {
    let mut versions = Versions::new(Locks::Kept);
    for key in ["a", "b", "b", "b", "c"] {
        versions.put(key, Bytes::new(), at(0), None);
    }
    let mut input = ListObjectVersionsInput { max_keys: Some(2), ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = versions.list(&input, "").unwrap();
        let of = |version: ObjectVersion| (version.key.unwrap(), version.is_latest.unwrap());
        seen.extend(page.versions.unwrap().into_iter().map(of));
        if page.is_truncated != Some(true) {
            break;
        }
        (input.key_marker, input.version_id_marker) =
            (page.next_key_marker, page.next_version_id_marker);
    }
    let told: Vec<_> = seen.iter().map(|(key, latest)| (key.as_str(), *latest)).collect();
    assert_eq!(told, [("a", true), ("b", true), ("b", false), ("b", false), ("c", true)]);
}
