use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

#[test]
fn the_store_answers_and_refuses_who_does_not_sign() {
    let store = ObjectStore::in_process();
    let host = store.address().endpoint.strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    let request = format!(
        "GET /{}?list-type=2 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        store.address().bucket
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(store.files().unwrap().is_dir());
}

#[test]
fn two_stores_share_nothing() {
    let (first, second) = (ObjectStore::in_process(), ObjectStore::in_process());
    assert_ne!(first.address().endpoint, second.address().endpoint);
    assert_ne!(first.url(), second.url());
}

#[test]
fn the_server_ends_with_its_guard() {
    let store = ObjectStore::in_process();
    let host = store.address().endpoint.strip_prefix("http://").unwrap().to_owned();
    drop(store);
    // The listener closes when the aborted task is dropped, which may be a moment later.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&host).is_ok() {
        assert!(std::time::Instant::now() < deadline, "{host} still answers");
        std::thread::yield_now();
    }
}
