use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;

fn asked(method: &str, uri: &str) -> Result<Ask, String> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let uri: Uri = uri.parse().map_err(|error| format!("{error}"))?;
    decide(&method, &uri, &HeaderMap::new(), false, Way::Socket)
        .map_err(|refusal| refusal.to_string())
}

#[test]
fn what_a_shipper_asks_for_is_allowed_and_written_anew() {
    let filters = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%5D%7D";
    let sorted = "%7B%22event%22%3A%5B%22start%22%5D%2C%22type%22%3A%5B%22container%22%5D%7D";
    for (uri, path) in [
        ("/_ping", "/_ping"),
        ("/v1.41/version", "/v1.41/version"),
        ("/containers/json?all=true&size=false", "/containers/json?all=true&size=false"),
        ("/v1.24/containers/json?size=0&all=1", "/v1.24/containers/json?all=1&size=0"),
        ("/containers/web-1/json", "/containers/web-1/json"),
        (
            "/containers/c0ffee/logs?stdout=1&stderr=1&timestamps=1&tail=all&follow=0&since=1.000000001",
            "/containers/c0ffee/logs?follow=0&since=1.000000001&stderr=1&stdout=1&tail=all&timestamps=1",
        ),
        (&format!("/events?filters={filters}"), &format!("/events?filters={sorted}")),
    ] {
        assert_eq!(asked("GET", uri).unwrap().path, path);
    }
    assert_eq!(asked("HEAD", "/_ping").unwrap().method, Method::HEAD);
    let kind = |uri| asked("GET", uri).unwrap().kind;
    assert_eq!(kind("/containers/a/logs?follow=1"), Kind::Stream { goes_on: true });
    assert_eq!(kind("/containers/a/logs?follow=false"), Kind::Stream { goes_on: false });
    assert_eq!(kind("/containers/a/json"), Kind::Inspect);
    let kill = asked("POST", "/v1.41/containers/a/kill?signal=SIGUSR1").unwrap().kind;
    let (version, name) = ("/v1.41".to_owned(), "a".to_owned());
    assert_eq!(kill, Kind::Kill { version, name, signal: "USR1" });
}

#[test]
fn everything_else_is_refused_with_a_reason() {
    for (method, uri, why) in [
        ("GET", "/info", "GET /info is not allowed; allowed are GET of _ping"),
        ("GET", "/", "is not allowed"),
        ("GET", "/v1.41", "is not allowed"),
        ("GET", "/v1.41/v1.41/_ping", "is not allowed"),
        ("GET", "/v1/_ping", "is not allowed"),
        ("GET", "/v1.4111/_ping", "is not allowed"),
        ("GET", "/containers/a/archive?path=/etc", "is not allowed"),
        ("GET", "/containers/a/export", "is not allowed"),
        ("GET", "/containers/a/json/", "is not allowed"),
        ("GET", "/containers//json", "single `/`"),
        ("GET", "//_ping", "single `/`"),
        ("GET", "/containers/../images/json", "`.` or `..`"),
        ("GET", "/v1.41/../_ping", "`.` or `..`"),
        ("GET", "/containers/./json", "`.` or `..`"),
        ("GET", "/containers/%2e%2e/json", "letters, digits"),
        ("GET", "/containers/a%2Fjson", "letters, digits"),
        ("GET", "/containers/a;x/json", "letters, digits"),
        ("GET", "/containers/.a/json", "is no name or id"),
        ("GET", "/containers/-a/json", "is no name or id"),
        ("GET", "http://engine/_ping", "not an address"),
        ("GET", "/_ping?x=1", "\"x\" is not allowed"),
        ("GET", "/containers/a/json?size=1", "size: \"1\" is not allowed"),
        ("GET", "/containers/a/logs?details=1", "details: \"1\" is not allowed"),
        ("GET", "/containers/a/logs?follow=yes", "follow: \"yes\" is not allowed"),
        ("GET", "/containers/a/logs?follow=0&follow=1", "\"follow\" twice"),
        ("GET", "/containers/a/logs?tail=-1", "tail: \"-1\" is not allowed"),
        ("GET", "/containers/a/logs?since=1.", "since: \"1.\" is not allowed"),
        ("GET", "/containers/json?filters=x", "filters: it must be a JSON object"),
        (
            "GET",
            "/containers/json?filters=%7B%22volume%22%3A%5B%5D%7D",
            "\"volume\" is not allowed",
        ),
        ("GET", "/containers/json?filters=%F", "the query cannot be read"),
        ("GET", "/events", "events must be filtered"),
        ("GET", "/events?filters=%7B%7D", "type must be [\"container\"]"),
        (
            "GET",
            "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
            "event must name some of create",
        ),
        ("POST", "/containers/a/kill", "kill must name a signal"),
        (
            "POST",
            "/containers/a/kill?signal=",
            "the signal \"\" is not allowed; allowed are HUP, USR1, USR2, WINCH",
        ),
        ("POST", "/containers/a/kill?signal=KILL", "the signal \"KILL\" is not allowed"),
        ("POST", "/containers/a/kill?signal=9", "the signal \"9\" is not allowed"),
        ("POST", "/containers/a/kill?signal=usr1", "the signal \"usr1\" is not allowed"),
        ("POST", "/containers/a/kill?signal=USR1&x=1", "\"x\" is not allowed"),
        ("GET", "/containers/a/kill?signal=USR1", "is not allowed"),
        ("POST", "/_ping", "is not allowed"),
        ("HEAD", "/containers/a/json", "is not allowed"),
        ("CONNECT", "/_ping", "is not allowed"),
        ("OPTIONS", "*", "letters, digits"),
        ("get", "/_ping", "is not allowed"),
    ] {
        let refusal = asked(method, uri).unwrap_err();
        assert!(refusal.contains(why), "{method} {uri}: {refusal}");
        assert!(refusal.starts_with("logship socket-proxy: "), "{refusal}");
    }
    let long = format!("/containers/{}/json", "a".repeat(NAME_BYTES_MAX + 1));
    assert!(asked("GET", &long).unwrap_err().contains("is no name or id"));
    let long = format!("/_ping?{}", "a".repeat(PATH_BYTES_MAX));
    assert!(asked("GET", &long).unwrap_err().contains("more than 4096 bytes"));
}

#[test]
fn bodies_and_other_protocols_are_refused() {
    let uri: Uri = "/_ping".parse().unwrap();
    let with = |name: &str, value: &str| {
        let mut headers = HeaderMap::new();
        let name: hyper::header::HeaderName = name.parse().unwrap();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        decide(&Method::GET, &uri, &headers, false, Way::Socket)
    };
    for (name, value) in [
        ("upgrade", "tcp"),
        ("expect", "100-continue"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("origin", "http://example.org"),
        ("content-length", "1"),
        ("content-length", "00"),
    ] {
        assert!(with(name, value).is_err(), "{name}: {value}");
    }
    assert!(with("content-length", "0").is_ok());
    assert!(decide(&Method::GET, &uri, &HeaderMap::new(), true, Way::Socket).is_err());
}

#[test]
fn a_signal_needs_the_label_that_names_it() {
    for label in ["signal:USR1", " signal:SIGUSR1 ", "signal: USR1"] {
        assert_eq!(may_signal("a", "USR1", Some(label)), Ok(()));
    }
    for label in [
        None,
        Some(""),
        Some("signal:HUP"),
        Some("none"),
        Some("exec:kill"),
        Some("signal:USR12"),
        Some("USR1"),
    ] {
        assert!(may_signal("a", "USR1", label).is_err(), "{label:?}");
    }
}

proptest! {
    /// Whatever is asked: what goes to the engine is one of the allowed paths, made of harmless characters, and is
    /// allowed itself.
    #[test]
    fn what_is_allowed_stays_so_when_it_is_asked_again(
        method in prop::sample::select(vec!["GET", "HEAD", "POST"]),
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "/", "v1.41", "containers", "json", "logs", "kill", "events", "_ping", "web", "..", ".", "%2e", "%2F",
                "?", "&", "=", "signal", "USR1", "KILL", "follow", "1", "true", "tail", "all", "#", ";", "\\", "@", ":",
                "filters", "%7B%7D", "version",
            ]),
            1..12,
        ),
    ) {
        let uri = format!("/{}", parts.concat());
        if let Ok(ask) = asked(method, &uri) {
            let (path, _) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
            prop_assert!(!path.contains("..") && !path.contains('%') && !path.contains("//"), "{uri}: {path}");
            let last = path.rsplit('/').next().unwrap();
            prop_assert!(["_ping", "version", "events", "json", "logs", "kill"].contains(&last), "{uri}: {path}");
            prop_assert_eq!(asked(method, &ask.path).unwrap(), ask);
        }
    }
}

#[test]
fn over_tcp_no_page_of_a_browser_gets_anything() {
    let ask = |way, pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        decide(&Method::GET, &"/version".parse().unwrap(), &headers, false, way).is_ok()
    };
    for host in ["127.0.0.1:2375", "[::1]:2375", "localhost", "engine:2375", "docker", ""] {
        assert!(ask(Way::Tcp, &[("host", host)]), "{host}");
    }
    // A name that somebody has led to this address.
    for host in ["evil.example", "evil.example:2375", "localhost.", "127.0.0.1.evil.example"] {
        assert!(!ask(Way::Tcp, &[("host", host)]), "{host}");
        assert!(ask(Way::Socket, &[("host", host)]), "{host}");
    }
    assert!(!ask(Way::Tcp, &[("host", "engine"), ("host", "evil.example")]));
    for way in [Way::Tcp, Way::Socket] {
        assert!(!ask(way, &[("host", "engine"), ("sec-fetch-site", "none")]));
    }
}
