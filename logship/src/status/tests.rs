use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use chores_common::status::ask;

use super::*;
use crate::wal::LogSettings;

struct Served {
    status: Status,
    stats: Arc<SinkStats>,
    runtime: tokio::runtime::Runtime,
}

fn served() -> Served {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, _) = Log::open(LogSettings { directory: None, ..LogSettings::default() }).unwrap();
    let stats = Arc::new(SinkStats::default());
    let sinks = vec![("archive".to_owned(), stats.clone())];
    let watched = Watched::new(&log, sinks, Arc::default(), Arc::default());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let status = serve(Some(address), watched, runtime.handle()).unwrap();
    Served { status, stats, runtime }
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
    let served = served();
    let address = served.status.address().unwrap();
    let answer = say(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    assert!(answer.contains("logship_sink_records_total{sink=\"archive\"} 0\n"), "{answer}");
    assert_eq!(ask(address, "logship").unwrap(), (true, "well".to_owned()));
    let since = time::now() - metrics::FAILING_TOLERATED;
    assert!(served.stats.failed(since, "no".to_owned()));
    let (is_well, said) = ask(address, "logship").unwrap();
    assert!(!is_well && said.starts_with("the sink archive has failed for "), "{said}");
    served.status.finish();
    drop(served.runtime);
    assert!(
        ask(address, "logship")
            .unwrap_err()
            .to_string()
            .starts_with("nobody answers at 127.0.0.1:")
    );
}
