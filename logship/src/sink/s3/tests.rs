use super::*;

#[test]
fn a_key_has_the_hour_of_its_first_record_and_sorts_as_the_log_does() {
    let place = |frame, record| Position { frame, record };
    let name = key(1_764_000_000_123_456_789, "0a1b", place(0, 3), place(1 << 40, 0));
    assert_eq!(name, "2025/11/24/16/0a1b-00000000000000000000.3-00000001099511627776.0.ndjson.zst");
    assert!(chores_common::object::is_valid_key(&name));
    assert!(key(0, "a", place(9, 0), place(10, 0)) < key(0, "a", place(10, 0), place(11, 0)));
}
