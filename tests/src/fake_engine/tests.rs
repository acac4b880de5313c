use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as PlainStream;

use super::*;
use crate::sandbox::Sandbox;

/// What a plain client gets, chunk sizes and frames included.
fn get(engine: &FakeEngine, query: &str) -> String {
    let mut stream = PlainStream::connect(&engine.socket).unwrap();
    let request = format!("GET /v1.41/containers/{CONTAINER}/logs?{query} HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

fn letters(reply: &str) -> String {
    reply.lines().filter_map(|line| line.split_once("Z line-")).map(|(_, rest)| rest).collect()
}

#[test]
fn both_ages_of_since_differ_where_the_clock_went_back() {
    let sandbox = Sandbox::new();
    for (since, wanted) in [(Since::EveryLine, "bd"), (Since::Prefix, "bcd")] {
        let socket = sandbox.path(format!("{since:?}"));
        let engine = FakeEngine::start(&socket, Behaviour { since, ..Behaviour::default() });
        for (ts, letter) in [(1_000_000_000, "a"), (3_000_000_000, "b"), (2_000_000_000, "c")] {
            engine.write(false, ts, format!("line-{letter}\n").as_bytes());
        }
        engine.write(false, 4_000_000_000, b"line-d\n");
        assert_eq!(letters(&get(&engine, "tail=all&since=2.5")), wanted);
        assert_eq!(letters(&get(&engine, "tail=2")), "cd");
    }
}

#[test]
fn what_is_rotated_away_is_in_no_reply() {
    let sandbox = Sandbox::new();
    let behaviour = Behaviour { files: 2, ..Behaviour::default() };
    let engine = FakeEngine::start(&sandbox.path("socket"), behaviour);
    for letter in ["a", "b", "c"] {
        engine.write(false, 1, format!("line-{letter}\n").as_bytes());
        engine.rotate();
    }
    assert_eq!(letters(&get(&engine, "tail=all")), "c");
}
