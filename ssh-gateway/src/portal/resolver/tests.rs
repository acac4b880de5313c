use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::*;

/// Longer than a server that answers needs, however loaded the machine is.
const PATIENT: Duration = Duration::from_secs(60);
/// For a server that does not answer.
const SHORT: Duration = Duration::from_millis(100);

const GOOD: [u8; 4] = [10, 0, 0, 1];
const FORGED: [u8; 4] = [10, 9, 9, 9];

/// What a server sends for a question: datagrams from its own port, or from another one.
enum Sent {
    Own(Vec<u8>),
    Foreign(Vec<u8>),
}

/// A name server on the loopback address, by UDP and TCP.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    questions: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn new(
        answer: impl Fn(&[u8]) -> Vec<Sent> + Send + 'static,
        stream: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Self {
        // A port that is free for both.
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(socket) = std::net::UdpSocket::bind(listener.local_addr().unwrap()) {
                break (listener, socket);
            }
        };
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let questions = Arc::new(AtomicUsize::new(0));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&questions));
        let datagrams = std::thread::spawn(move || {
            let foreign = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut bytes = [0; 600];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                if over.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                for sent in answer(&bytes[..length]) {
                    // The one who asked may be gone.
                    match sent {
                        Sent::Own(bytes) => socket.send_to(&bytes, from).ok(),
                        Sent::Foreign(bytes) => foreign.send_to(&bytes, from).ok(),
                    };
                }
            }
        });
        let over = Arc::clone(&is_over);
        let streams = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let mut client = client.unwrap();
                let mut length = [0; 2];
                client.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                client.read_exact(&mut question).unwrap();
                client.write_all(&stream(&question)).unwrap();
            }
        });
        Self { address, is_over, questions, threads: vec![datagrams, streams] }
    }

    fn by_datagrams(answer: impl Fn(&[u8]) -> Vec<Sent> + Send + 'static) -> Self {
        Self::new(answer, |_| Vec::new())
    }

    fn silent() -> Self {
        Self::by_datagrams(|_| Vec::new())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], self.address).unwrap();
        std::net::TcpStream::connect(self.address).unwrap();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn is_v4(question: &[u8]) -> bool {
    question[question.len() - 3] == 1
}

/// A reply with this code, and with this address if the question is for IPv4.
fn reply(question: &[u8], flags: u8, code: u8, address: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = question.to_vec();
    (bytes[2], bytes[3]) = (0x80 | flags, code);
    if let Some(address) = address.filter(|_| is_v4(question)) {
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
    }
    bytes
}

fn good(question: &[u8]) -> Sent {
    Sent::Own(reply(question, 0, 0, Some(GOOD)))
}

fn resolver(servers: &[&Server], timeout: Duration) -> Resolver {
    let settings = Settings {
        servers: servers.iter().map(|server| server.address).collect(),
        timeout,
        ..Settings::of(b"")
    };
    Resolver { hosts: Vec::new(), settings }
}

fn lookup(resolver: &Resolver, host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(resolver.lookup(host))
}

fn addresses(of: [u8; 4]) -> Result<Vec<IpAddr>, LookupError> {
    Ok(vec![of.into()])
}

#[test]
fn a_server_is_asked_for_both_families() {
    let server = Server::by_datagrams(|question| vec![good(question)]);
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), addresses(GOOD));
    assert_eq!(server.questions.load(Ordering::SeqCst), 2);
}

#[test]
fn answers_of_others_are_not_believed() {
    let server = Server::by_datagrams(|question| {
        let forged = reply(question, 0, 0, Some(FORGED));
        let mut wrong_id = forged.clone();
        wrong_id[0] ^= 1;
        let mut wrong_name = forged.clone();
        wrong_name[13] ^= 1;
        let parts = [wrong_id, wrong_name, b"noise".to_vec(), question.to_vec()].map(Sent::Own);
        [Sent::Foreign(forged)].into_iter().chain(parts).chain([good(question)]).collect()
    });
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), addresses(GOOD));
}

#[test]
fn a_server_that_sends_only_noise_is_given_up() {
    let server = Server::by_datagrams(|_| {
        (0..STRAY_DATAGRAMS_MAX).map(|_| Sent::Own(b"noise".to_vec())).collect()
    });
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), Err(LookupError::NoAnswer));
}

#[test]
fn a_long_answer_comes_by_tcp() {
    let whole = |question: &[u8]| {
        let reply = reply(question, 0, 0, Some(GOOD));
        [u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec(), reply].concat()
    };
    let truncated = |question: &[u8]| vec![Sent::Own(reply(question, 2, 0, None))];
    let server = Server::new(truncated, whole);
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), addresses(GOOD));
    // A stream that ends before its answer does.
    let server = Server::new(truncated, |question| vec![0, 99, question[0]]);
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), Err(LookupError::NoAnswer));
}

#[test]
fn aliases_without_end_are_no_answer() {
    let server = Server::by_datagrams(|question| {
        let mut bytes = reply(question, 0, 0, None);
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]);
        vec![Sent::Own(bytes)]
    });
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), Err(LookupError::NoAnswer));
}

#[test]
fn an_unknown_name_and_one_without_address_are_told_apart() {
    let unknown = Server::by_datagrams(|question| vec![Sent::Own(reply(question, 0, 3, None))]);
    assert_eq!(lookup(&resolver(&[&unknown], PATIENT), "db"), Err(LookupError::Unknown));
    let empty = Server::by_datagrams(|question| vec![Sent::Own(reply(question, 0, 0, None))]);
    assert_eq!(lookup(&resolver(&[&empty], PATIENT), "db"), Err(LookupError::NoAddress));
    let broken = Server::by_datagrams(|question| vec![Sent::Own(reply(question, 0, 2, None))]);
    assert_eq!(lookup(&resolver(&[&broken], PATIENT), "db"), Err(LookupError::NoAnswer));
}

#[test]
fn silence_ends_and_the_next_server_is_asked() {
    let silent = Server::silent();
    assert_eq!(lookup(&resolver(&[&silent], SHORT), "db"), Err(LookupError::NoAnswer));
    assert_eq!(silent.questions.load(Ordering::SeqCst), 4);
    let server = Server::by_datagrams(|question| vec![good(question)]);
    let patient = Resolver {
        settings: Settings { attempts: 100, ..resolver(&[&silent, &server], SHORT).settings },
        hosts: Vec::new(),
    };
    assert_eq!(lookup(&patient, "db"), addresses(GOOD));
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_not_silence() {
    let address = Server::silent().address;
    let settings = Settings { servers: vec![address], timeout: PATIENT, ..Settings::of(b"") };
    let resolver = Resolver { hosts: Vec::new(), settings };
    assert_eq!(lookup(&resolver, "db"), Err(LookupError::NoAnswer));
}

#[test]
fn a_family_that_is_never_answered_does_not_hold_up_the_other() {
    let server =
        Server::by_datagrams(
            |question| {
                if is_v4(question) { vec![good(question)] } else { Vec::new() }
            },
        );
    assert_eq!(lookup(&resolver(&[&server], PATIENT), "db"), addresses(GOOD));
}

#[test]
fn domains_are_searched_until_a_name_is_found() {
    let server = Server::by_datagrams(|question| {
        let is_found = question[12..].starts_with(b"\x02db\x04corp\x00");
        let code = if is_found { 0 } else { 3 };
        vec![Sent::Own(reply(question, 0, code, is_found.then_some(GOOD)))]
    });
    let mut resolver = resolver(&[&server], PATIENT);
    resolver.settings.search = vec!["example".into(), "corp".into()];
    assert_eq!(lookup(&resolver, "db"), addresses(GOOD));
    assert_eq!(lookup(&resolver, "db."), Err(LookupError::Unknown));
}

#[test]
fn nobody_is_asked_for_what_is_known() {
    let server = Server::silent();
    let mut resolver = resolver(&[&server], PATIENT);
    resolver.hosts = b"10.0.0.1 db\n".to_vec();
    let found = |host: &str| -> Vec<String> {
        lookup(&resolver, host).unwrap().iter().map(ToString::to_string).collect()
    };
    for (host, wanted) in [
        ("db", ["10.0.0.1"].as_slice()),
        ("192.0.2.7", &["192.0.2.7"]),
        ("2001:db8::1", &["2001:db8::1"]),
        ("[2001:db8::1]", &["2001:db8::1"]),
        ("localhost", &["127.0.0.1", "::1"]),
        ("LocalHost.", &["127.0.0.1", "::1"]),
        ("db.localhost", &["127.0.0.1", "::1"]),
    ] {
        assert_eq!(found(host), wanted, "{host}");
    }
    for bad in ["", "a b", "a..b", "a\n127.0.0.1 b", "fe80::1%eth0", "[db]"] {
        assert_eq!(lookup(&resolver, bad), Err(LookupError::BadName), "{bad}");
    }
    assert_eq!(server.questions.load(Ordering::SeqCst), 0);
}

#[test]
fn families_alternate_and_are_bounded() {
    let v6 = |n: u8| IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, n.into()));
    let v4 = |n: u8| IpAddr::from([10, 0, 0, n]);
    let wanted = vec![v6(1), v4(1), v4(2)];
    assert_eq!(alternating(vec![v6(1)], vec![v4(1), v4(2)]), wanted);
    let many = alternating((0..99).map(v6).collect(), (0..99).map(v4).collect());
    assert_eq!(many.len(), ADDRESSES_MAX);
}
