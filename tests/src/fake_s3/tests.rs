use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// Status and body of one unsigned request; `None` when the connection closes without an answer.
fn request(
    store: &FakeS3,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Option<(u16, Vec<u8>)> {
    let host = store.address().endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} /{}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        store.address().bucket,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    Some((status, answer.split_off(end)))
}

fn put(store: &FakeS3, key: &str, body: &[u8]) -> Option<u16> {
    request(store, "PUT", &format!("/{key}"), "", body).map(|(status, _)| status)
}

fn get(store: &FakeS3, key: &str) -> Option<(u16, Vec<u8>)> {
    request(store, "GET", &format!("/{key}"), "", b"")
}

#[test]
fn what_is_put_is_got_whole_and_in_ranges() {
    let store = FakeS3::new();
    assert_eq!(put(&store, "a/b", b"0123456789"), Some(200));
    assert_eq!(get(&store, "a/b"), Some((200, b"0123456789".to_vec())));
    let ranged = request(&store, "GET", "/a/b", "Range: bytes=2-4\r\n", b"");
    assert_eq!(ranged, Some((206, b"234".to_vec())));
    let suffix = request(&store, "GET", "/a/b", "Range: bytes=-3\r\n", b"");
    assert_eq!(suffix, Some((206, b"789".to_vec())));
    assert_eq!(get(&store, "absent").unwrap().0, 404);
    assert_eq!(request(&store, "DELETE", "/a/b", "", b"").unwrap().0, 204);
    assert_eq!(get(&store, "a/b").unwrap().0, 404);
}

#[test]
fn lists_come_in_pages_and_fold_at_the_delimiter() {
    let objects = (0..1500).map(|n| (format!("packs/{n:04}"), Bytes::from_static(b"x"))).collect();
    let store = FakeS3::with_objects(objects, &[]);
    let (_, first) = request(&store, "GET", "?list-type=2&prefix=packs/", "", b"").unwrap();
    let first = String::from_utf8(first).unwrap();
    assert_eq!(first.matches("<Key>").count(), 1000);
    assert!(first.contains("<IsTruncated>true</IsTruncated>"));
    let next = "?list-type=2&prefix=packs/&continuation-token=packs/0999";
    let second = String::from_utf8(request(&store, "GET", next, "", b"").unwrap().1).unwrap();
    assert_eq!(second.matches("<Key>").count(), 500);
    let folded = request(&store, "GET", "?list-type=2&delimiter=/", "", b"").unwrap().1;
    let folded = String::from_utf8(folded).unwrap();
    assert_eq!(
        (folded.matches("<Key>").count(), folded.matches("packs/</Prefix>").count()),
        (0, 1)
    );
}

#[test]
fn a_conditional_put_never_overwrites() {
    let store = FakeS3::new();
    put(&store, "key", b"first");
    let second = request(&store, "PUT", "/key", "If-None-Match: *\r\n", b"second");
    assert_eq!(second.unwrap().0, 412);
    assert_eq!(&store.objects()["key"][..], b"first");
}

#[test]
fn a_failing_call_fails_for_ever_and_others_work() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Fail(1)]);
    assert_eq!(put(&store, "a", b"1"), Some(200));
    assert_eq!(put(&store, "b", b"2"), Some(500));
    assert_eq!(put(&store, "b", b"2"), Some(500));
    assert_eq!(put(&store, "c", b"3"), Some(200));
    assert_eq!(store.objects().into_keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn a_call_that_fails_once_works_when_repeated() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::FailOnce(0)]);
    assert_eq!(put(&store, "a", b"1"), Some(500));
    assert_eq!(put(&store, "a", b"1"), Some(200));
}

#[test]
fn a_lost_answer_leaves_the_object() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::AppliedButLost(0)]);
    assert_eq!(put(&store, "a", b"1"), None);
    assert_eq!(&store.objects()["a"][..], b"1");
    assert_eq!(put(&store, "a", b"1"), Some(200));
}

#[test]
fn a_crash_refuses_everything_until_the_restart() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Crash(1)]);
    put(&store, "a", b"1");
    assert_eq!(put(&store, "b", b"2"), Some(403));
    assert_eq!(get(&store, "a").unwrap().0, 403);
    let restarted = FakeS3::with_objects(store.objects(), &[]);
    assert_eq!(get(&restarted, "a"), Some((200, b"1".to_vec())));
    assert_eq!(get(&restarted, "b").unwrap().0, 404);
}

#[test]
fn a_crash_after_a_call_keeps_what_it_did() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::CrashAfter(0)]);
    assert_eq!(put(&store, "a", b"1"), Some(403));
    assert_eq!(get(&store, "a").unwrap().0, 403);
    assert_eq!(&store.objects()["a"][..], b"1");
}

#[test]
fn a_reordered_put_lands_after_a_later_one() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Reorder(0)]);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| put(&store, "key", b"first"));
        while store.calls().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(put(&store, "key", b"second"), Some(200));
        assert_eq!(held.join().unwrap(), Some(200));
    });
    assert_eq!(&store.objects()["key"][..], b"first");
}

#[test]
fn a_reordered_put_without_rivals_is_let_through() {
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Reorder(0)]);
    assert_eq!(put(&store, "key", b"alone"), Some(200));
}

#[test]
fn every_call_is_counted_with_its_bytes() {
    let store = FakeS3::new();
    put(&store, "key", b"12345");
    get(&store, "key");
    let calls = store.calls();
    assert_eq!(
        calls.iter().map(|call| (call.op, call.bytes)).collect::<Vec<_>>(),
        [(Op::Put, 5), (Op::Get, 5)]
    );
}

#[test]
fn another_bucket_does_not_exist() {
    let store = FakeS3::new();
    let host = store.address().endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream
        .write_all(b"GET /another-bucket/key HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("NoSuchBucket"), "{answer}");
}
