use super::*;

#[test]
fn a_loop_and_a_disk_that_hang_are_not_well() {
    let second = Duration::from_secs(1);
    let most = second * u32::try_from(health::ALIVE_SECONDS_MAX).unwrap();
    assert_eq!(stuck(most, None), Vec::<String>::new());
    assert_eq!(stuck(Duration::ZERO, Some(most)), Vec::<String>::new());
    assert_eq!(stuck(most + second, None), ["the loop hangs"]);
    let both = stuck(most + second, Some(most + second * 2));
    assert_eq!(both.len(), 2);
    assert!(both[1].contains("state directory does not answer since 62 s"), "{both:?}");
}

#[test]
fn the_health_that_is_served_is_that_of_a_loop_that_goes_round() {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let scribe = Scribe::start(place, crate::notify::Kept::default()).unwrap();
    let now = Timestamp::now();
    let settings = load(None, &Typed::default()).unwrap();
    let state = crate::serve::state::State::default();
    let report = Board::new(settings, state, None, "own".to_owned(), now).report(now);
    let long = Duration::from_secs(health::ALIVE_SECONDS_MAX + 1);
    let Some(long_ago) = Instant::now().checked_sub(long) else { return };
    let shown = Arc::new(Mutex::new(Shown { report, channels: Vec::new(), at: long_ago }));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _served = show(Some(port), &shown, scribe.desk(), now, runtime.handle()).unwrap();
    let ask = || {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the loop hangs"), "{answer}");
    locked(&shown).at = Instant::now();
    let answer = ask();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
