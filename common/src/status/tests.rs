use super::*;

struct Served {
    status: Status,
    runtime: tokio::runtime::Runtime,
}

fn served(ailments: &'static [&'static str]) -> Served {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let status = start(Some(address), ailments, &runtime).unwrap();
    Served { status, runtime }
}

fn start(
    address: Option<SocketAddr>,
    ailments: &'static [&'static str],
    runtime: &tokio::runtime::Runtime,
) -> Result<Status, StatusError> {
    let ailments = move || ailments.iter().map(|one| (*one).to_owned()).collect();
    Status::start(address, || "up 1\n# EOF\n".to_owned(), ailments, runtime.handle())
}

/// What is answered to the bytes of a request.
fn say(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn metrics_and_health_are_served() {
    let served = served(&[]);
    let address = served.status.address().unwrap();
    let answer = say(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nup 1\n# EOF\n"), "{answer}");
    assert_eq!(ask(address, "it").unwrap(), (true, "well".to_owned()));
    served.status.finish();
    drop(served.runtime);
    let error = ask(address, "it").unwrap_err().to_string();
    assert!(error.starts_with("nobody answers at 127.0.0.1:"), "{error}");
}

#[test]
fn what_is_wrong_is_said_line_by_line() {
    let served = served(&["one", "two"]);
    let address = served.status.address().unwrap();
    assert_eq!(ask(address, "it").unwrap(), (false, "one\ntwo".to_owned()));
    drop(served);
}

#[test]
fn other_requests_are_refused() {
    let served = served(&[]);
    let address = served.status.address().unwrap();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = say(address, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(2 * LIMITS.head_bytes));
    let answer = say(address, long.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[test]
fn an_address_that_is_taken_is_one_sentence() {
    let served = served(&[]);
    let error = start(served.status.address(), &[], &served.runtime);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("cannot serve metrics at 127.0.0.1:"), "{error}");
}

#[test]
fn without_an_address_nothing_is_served() {
    let served = served(&[]);
    let status = start(None, &[], &served.runtime);
    assert_eq!(status.unwrap().address(), None);
}

#[test]
fn what_listens_everywhere_is_asked_at_home() {
    for (address, asked) in [
        ("0.0.0.0:9464", "127.0.0.1:9464"),
        ("[::]:9464", "[::1]:9464"),
        ("10.0.0.1:9464", "10.0.0.1:9464"),
    ] {
        assert_eq!(reachable(address.parse().unwrap()), asked.parse().unwrap());
    }
}
