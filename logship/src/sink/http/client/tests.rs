use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::sink::settings::{SinkSettings, Target};

fn endpoint(url: &str, options: &[(&str, &str)]) -> Endpoint {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let options: BTreeMap<_, _> = options.collect();
    match SinkSettings::parse_in("web", url, &options, &|_| None).unwrap().target {
        Target::Http(settings) => settings.endpoint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_says_what_it_was_told_makes_no_message_that_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n{}") && stream.read(&mut byte).unwrap() > 0 {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let is_ours = |line: &&str| {
            let line = line.to_ascii_lowercase();
            ["post ", "authorization", "x-key"].iter().any(|start| line.starts_with(start))
        };
        let body = head.lines().filter(is_ours).collect::<Vec<_>>().join(" ");
        let length = body.len();
        write!(stream, "HTTP/1.1 400 No\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    });
    let options = [
        ("user", "frank"),
        ("password", "open sesame"),
        ("header.x-key", "k3y-0f-header"),
        ("query", "api_key=k3y-0f-query&v=1"),
        ("compress", "none"),
    ];
    let client = Client::new(&endpoint(&format!("http://{address}/in"), &options)).unwrap();
    let said = client.post(b"{}").outcome.unwrap().sentence;
    server.join().unwrap();
    let login = STANDARD.encode("frank:open sesame");
    assert!(said.contains("POST /in") && said.contains("answered 400"), "{said}");
    for secret in [&login, "sesame", "k3y-0f-header", "k3y-0f-query"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn the_tenant_of_loki_is_no_secret() {
    let endpoint = endpoint("loki+http://loki", &[("tenant", "shop")]);
    assert!(endpoint.secrets().is_empty(), "{:?}", endpoint.secrets());
}
