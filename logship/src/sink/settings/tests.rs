use std::collections::BTreeMap;
use std::time::Duration;

use chores_common::exit::chain;
use chores_common::object::Location;
use chores_common::secret::Secret;

use super::super::batch::Poison;
use super::super::http::client::{Compression, Login};
use super::super::options::LineFormat;
use super::super::socket::{MessageFormat, Transport};
use super::*;
use crate::encode::Controls;

fn parse(url: &str, options: &[(&str, &str)]) -> Result<SinkSettings, String> {
    parse_in(url, options, &|_| None)
}

fn parse_in(
    url: &str,
    options: &[(&str, &str)],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<SinkSettings, String> {
    let options: BTreeMap<_, _> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SinkSettings::parse_in("main", url, &options, environment).map_err(|error| chain(&error))
}

#[test]
fn standard_output_is_records_or_plain_lines() {
    for url in ["stdout:", "stdout://"] {
        let Target::Stdout(settings) = parse(url, &[]).unwrap().target else { panic!("{url}") };
        assert_eq!((settings.format, settings.controls), (LineFormat::Ndjson, Controls::All));
    }
    let plain = parse("stdout:?format=plain", &[]).unwrap();
    let Target::Stdout(settings) = plain.target else { panic!() };
    assert_eq!((settings.format, settings.controls), (LineFormat::Plain, Controls::Gaps));
}

#[test]
fn options_of_files_stand_in_the_url_or_beside_it() {
    let url = "file:///logs/{container}.log?rotate=100MB&every=24h";
    let settings =
        parse(url, &[("keep", "7"), ("compress", "zstd"), ("backlog_max", "1GiB")]).unwrap();
    assert_eq!(settings.backlog_bytes_max, Some(1 << 30));
    let Target::File(file) = settings.target else { panic!() };
    assert_eq!(file.rotate_bytes, Some(100_000_000));
    assert_eq!(file.rotate_age, Some(Duration::from_secs(86_400)));
    assert_eq!((file.keep.count, file.keep.zstd), (Some(7), true));
    assert_eq!(file.format, LineFormat::Plain);
    let Target::File(file) = parse("file:///a%20b/x.ndjson", &[]).unwrap().target else { panic!() };
    assert_eq!(file.format, LineFormat::Ndjson);
}

#[test]
fn syslog_has_the_port_of_its_transport() {
    for (url, transport, port) in [
        ("syslog+udp://h", Transport::Udp, 514),
        ("syslog+tcp://[::1]:1514", Transport::Tcp, 1514),
        ("syslog+tls://h/", Transport::Tls(Default::default()), 6514),
    ] {
        let Target::Socket(settings) = parse(url, &[("facility", "local3")]).unwrap().target else {
            panic!("{url}")
        };
        assert_eq!((settings.transport, settings.port), (transport, port));
        let MessageFormat::Syslog(format) = settings.format else { panic!("{url}") };
        assert_eq!(format.facility, 19);
    }
}

#[test]
fn http_takes_secrets_from_files_and_shows_none() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let options = [
        ("token_file", token.to_str().unwrap()),
        ("compress", "zstd"),
        ("poison", "drop"),
        ("header.X-Scope", "k3y"),
        ("query", "a=b&c"),
    ];
    let settings = parse("https://logs.example/in", &options).unwrap();
    let shown = format!("{settings:?}");
    assert!(["s3cret", "k3y", "a=b"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    let Target::Http(http) = settings.target else { panic!() };
    let Login::Bearer(secret) = &http.endpoint.login else { panic!() };
    assert_eq!(secret.expose(), "s3cret");
    assert_eq!(http.endpoint.url.expose(), "https://logs.example/in?a=b&c");
    assert_eq!(http.endpoint.shown, "https://logs.example/in");
    assert_eq!((http.endpoint.compression, http.poison), (Compression::Zstd, Poison::Drop));
    assert_eq!(http.endpoint.headers, [("X-Scope".to_owned(), Secret::new("k3y".to_owned()))]);
}

#[test]
fn s3_may_have_its_keys_from_the_environment() {
    let environment = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("key".to_owned()),
        _ => None,
    };
    let settings = parse_in("s3://b/p/q?endpoint=http://h:9000&age=1m", &[], &environment);
    let Target::S3(s3) = settings.unwrap().target else { panic!() };
    let (bucket, prefix) = ("b".to_owned(), "p/q".to_owned());
    assert_eq!(s3.location, Location::S3 { bucket, prefix });
    assert_eq!(s3.s3.access_key.as_deref(), Some("id"));
    assert_eq!(s3.s3.secret_key.map(|key| key.expose().to_owned()).as_deref(), Some("key"));
    assert_eq!(s3.batch_age, Duration::from_secs(60));
}

#[test]
fn collectors_have_paths_and_ways_to_log_in_of_their_own() {
    let endpoint = |url: &str, options: &[(&str, &str)]| {
        let settings = parse(url, options).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        let Target::Http(http) = settings.target else { panic!("{url}") };
        http.endpoint
    };
    for (url, requested) in [
        ("es+https://h:9200/proxy/web-{date}", "https://h:9200/proxy/_bulk"),
        ("es+http://h", "http://h/_bulk"),
        ("loki+http://h", "http://h/loki/api/v1/push"),
        ("loki+http://h/own", "http://h/own"),
        ("otlp+https://h/", "https://h/v1/logs"),
    ] {
        assert_eq!(endpoint(url, &[]).url.expose(), requested);
    }
    let key = endpoint("es+http://h", &[("api_key", "s3cret")]).login;
    assert_eq!(key, Login::ApiKey(Secret::new("s3cret".to_owned())));
    assert_eq!(endpoint("loki+http://h", &[]).compression, Compression::Snappy);
    for url in ["fluent://h?shared_key=s3cret", "nats://u@h?password=s3cret", "gelf+udp://h"] {
        let settings = parse(url, &[]).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

/// A URL, options beside it, and what the sentence says.
type Fault<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn every_fault_is_a_sentence_that_names_it() {
    let long = "x".repeat(70);
    let cases: [Fault<'_>; 30] = [
        ("nowhere", &[], "`nowhere` is no URL of a sink: write one of stdout:, file:///path"),
        ("ftp://h", &[], "`ftp://h` is no URL of a sink"),
        (
            "http://u:secret@h",
            &[],
            "its URL holds a password, which listings and logs show: use password_file",
        ),
        ("stdout:x", &[], "its URL must look like stdout:"),
        ("file://host/x", &[], "its URL must look like file:///directory/{container}.log"),
        ("file:///dir/", &[], "its URL must look like file:///directory/{container}.log"),
        ("file:///{nobody}", &[], "the path is unusable: {nobody} is no placeholder"),
        ("file:///x?rotate=1", &[], "rotate is 1, but must be from 4096 bytes to"),
        ("file:///x?rotate=big", &[], "rotate is unusable: `big` is no size"),
        ("file:///x?every=5", &[], "every is unusable: `5` is no duration"),
        ("file:///x?keep=0", &[], "keep is 0, but must be from 1 to 100000"),
        (
            "file:///x?rotat=1MB",
            &[],
            "`rotat` is no option of file; there are backlog_max, compress, control, every, format, keep, keep_for, rotate",
        ),
        ("file:///x?keep=1", &[("keep", "2")], "keep is given twice: keep one"),
        ("file:///%zz", &[], "its URL has a broken %-escape"),
        ("stdout:?format=xml", &[], "format is `xml`, but must be one of ndjson, plain"),
        ("syslog+udp://", &[], "its URL must look like syslog+udp://host:port"),
        ("syslog+tls://h?cert_file=/x", &[], "cert_file and key_file belong together"),
        (
            "http://h?token=a",
            &[("token_file", "/b")],
            "token and token_file are both set; keep one",
        ),
        (
            "http://h",
            &[("token_file", "/nowhere")],
            "cannot read /nowhere, the file that token_file names",
        ),
        ("http://u@h", &[], "user and password belong together"),
        ("http://h", &[("header.Host", "x")], "header.Host is no header that may be set"),
        ("s3://", &[], "has no usable bucket name"),
        ("es+http://h?api_key=a&token=b", &[], "api_key is given beside token, user or password"),
        ("loki+http://h?compress=gzip", &[], "`compress` is no option of loki+http; there are"),
        ("loki+http://h", &[("field.line", "")], "field.line cannot be left out"),
        ("otlp+http://h?compress=zstd", &[], "compress is `zstd`, but must be one of none, gzip"),
        ("fluent://h?user=a&password=b", &[], "user needs shared_key"),
        ("fluent://h?tag={date}", &[], "tag cannot have {date} in it"),
        ("gelf+tcp://h?chunk=1KiB", &[], "`chunk` is no option of gelf+tcp"),
        ("nats://h/x", &[], "its URL must look like nats://host:port or nats+tls://host:port"),
    ];
    for (url, options, sentence) in cases {
        let fault = parse(url, options).expect_err(url);
        assert!(fault.starts_with("the sink main is unusable: "), "{fault}");
        assert!(fault.contains(sentence), "{url}: {fault}");
        assert!(!fault.contains("secret@"), "{fault}");
    }
    for name in ["", "a/b", ".", "ä", long.as_str()] {
        assert!(SinkSettings::parse(name, "stdout:", &BTreeMap::new()).is_err(), "{name}");
    }
}
