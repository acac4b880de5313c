use super::*;

#[test]
fn a_server_may_ask_for_time_in_seconds_or_by_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
    let date = "Sun, 06 Nov 1994 08:50:37 GMT";
    assert_eq!(retry_after(date, now), Some(Duration::from_secs(60)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
    assert_eq!(retry_after("soon", now), None);
}
