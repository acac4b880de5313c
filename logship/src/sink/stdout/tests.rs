use std::io::Read as _;

use chores_common::shutdown::Shutdown;

use super::*;
use crate::encode::tests::{engine_meta, frame};
use crate::record::{Flags, Stream};
use crate::wal::Position;

fn deliver(sink: &mut Stdout) -> Result<Sent, SinkFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut context = Context {
        range: Position::default()..Position::default(),
        committed: Position::default(),
        stop: &Shutdown::new(),
        runtime: runtime.handle(),
        keep: &mut |_| Ok(()),
    };
    sink.deliver(&mut context)
}

fn plain(output: impl Into<OwnedFd>) -> Stdout {
    let settings = StdoutSettings { format: LineFormat::Plain, controls: Controls::Gaps };
    Stdout::over(output.into(), settings)
}

#[test]
fn lines_come_out_in_order_and_once() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut sink = plain(writer);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let line = vec![b'x'; 100_000];
    let flags = Flags::new(Stream::Stdout);
    let records: Vec<(Flags, &[u8])> = vec![(flags, &line), (flags, b"end")];
    for _ in 0..3 {
        let frame = frame(engine_meta(), &records);
        assert_eq!(sink.push(&frame, 0), 2);
        assert_eq!(deliver(&mut sink), Ok(Sent { bytes: 100_005, refused: Vec::new() }));
    }
    drop(sink);
    let expected = format!("{}\nend\n", "x".repeat(100_000)).repeat(3);
    assert!(reading.join().unwrap() == expected);
}

#[test]
fn a_reader_that_is_gone_ends_the_sink() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut sink = plain(writer);
    sink.push(&frame(engine_meta(), &[(Flags::new(Stream::Stdout), b"x")]), 0);
    let failure = deliver(&mut sink).unwrap_err();
    assert!(failure.is_final, "{failure}");
    assert!(failure.sentence.starts_with("cannot write to standard output: "), "{failure}");
}
