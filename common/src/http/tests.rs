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

#[test]
fn neither_the_url_nor_a_secret_is_in_what_is_shown() {
    let (url, token) = (
        Secret::new("https://hooks.example/T0/B0/s3cret?key=abc".to_owned()),
        Secret::new("t0ken".to_owned()),
    );
    let post = Post {
        url: &url,
        shown: "https://hooks.example",
        headers: &[],
        secrets: &[&token],
        body: b"",
        answer_bytes_max: 1,
        wants_body: true,
    };
    let text = "https://hooks.example/T0/B0/s3cret?key=abc: no /T0/B0/s3cret?key=abc for t0ken";
    assert_eq!(redacted(text.to_owned(), &post), "https://hooks.example: no … for …");
}
