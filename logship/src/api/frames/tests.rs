use proptest::prelude::*;

use super::*;

const T1: &str = "2026-11-24T10:20:30.000000001Z";
const T2: &str = "2026-11-24T10:20:30.000000002Z";
const FIRST: i64 = 1_795_515_630_000_000_001;

fn framed(kind: u8, text: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text);
    out
}

/// When the bytes came: a second after the lines.
const NOW: i64 = FIRST + 1_000_000_000;

type Owned = (Stream, i64, Vec<u8>);

/// Everything in `body`, pushed in chunks of `step` bytes.
fn decoded(framing: Framing, body: &[u8], step: usize) -> (Vec<Owned>, Option<FrameError>) {
    let mut decoder = Decoder::new(framing);
    let mut messages = Vec::new();
    let own = |message: Message<'_>| (message.stream, message.ts, message.bytes.to_vec());
    for chunk in body.chunks(step.max(1)) {
        decoder.push(chunk, NOW);
        while let Some(message) = decoder.message() {
            match message {
                Ok(message) => messages.push(own(message)),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    while let Some(message) = decoder.finish() {
        match message {
            Ok(message) => messages.push(own(message)),
            Err(error) => return (messages, Some(error)),
        }
    }
    (messages, None)
}

#[test]
fn two_streams_are_told_apart_wherever_the_chunks_end() {
    let mut body = framed(1, format!("{T1} out\n").as_bytes());
    body.extend(framed(2, format!("{T2} err\n").as_bytes()));
    body.extend(framed(1, format!("{T2} ").as_bytes()));
    let wanted = vec![
        (Stream::Stdout, FIRST, b"out\n".to_vec()),
        (Stream::Stderr, FIRST + 1, b"err\n".to_vec()),
        (Stream::Stdout, FIRST + 1, b"".to_vec()),
    ];
    for step in 1..=body.len() {
        assert_eq!(decoded(Framing::Multiplexed, &body, step), (wanted.clone(), None));
    }
}

#[test]
fn an_error_of_the_engine_is_an_error_and_no_line() {
    let mut body = framed(1, format!("{T1} out\n").as_bytes());
    body.extend(framed(3, b"Error grabbing logs: invalid character 'x'\n"));
    let (messages, error) = decoded(Framing::Multiplexed, &body, 7);
    assert_eq!(messages.len(), 1);
    assert_eq!(error, Some(FrameError::Engine("invalid character 'x'".to_owned())));
    let body = format!("{T1} out\r\nError grabbing logs: unexpected EOF\n");
    let (messages, error) = decoded(Framing::Terminal, body.as_bytes(), 7);
    assert_eq!(messages.len(), 1);
    assert_eq!(error, Some(FrameError::Engine("unexpected EOF".to_owned())));
}

#[test]
fn what_cannot_be_a_message_is_refused() {
    let time = format!("{T1} x\n");
    for (body, error) in [
        (framed(0, time.as_bytes()), FrameError::Header),
        (framed(9, time.as_bytes()), FrameError::Header),
        (vec![1, 0, 1, 0, 0, 0, 0, 1, b'x'], FrameError::Header),
        (vec![1, 0, 0, 0, 0xff, 0, 0, 0, b'x'], FrameError::TooLong(0xff00_0000)),
        (framed(1, b"no time\n"), FrameError::Time),
    ] {
        assert_eq!(decoded(Framing::Multiplexed, &body, 100), (Vec::new(), Some(error)));
    }
}

#[test]
fn a_time_with_an_offset_is_read_as_podman_writes_it() {
    let body = framed(1, b"2026-11-24T11:20:30.000000001+01:00 x\n");
    let (messages, error) = decoded(Framing::Multiplexed, &body, 100);
    assert_eq!((messages, error), (vec![(Stream::Stdout, FIRST, b"x\n".to_vec())], None));
}

#[test]
fn the_pieces_of_a_terminal_end_where_the_next_time_begins() {
    let long = "x".repeat(16_384);
    // The last piece is one that never ended: another run of the container follows it.
    let body = format!("{T1} {long}{T1} {long}{T1} end\r\n{T1} prompt{T2} next\r\n{T2} open");
    let wanted: Vec<Owned> = [
        (FIRST, long.as_str()),
        (FIRST, long.as_str()),
        (FIRST, "end\r\n"),
        (FIRST, "prompt"),
        (FIRST + 1, "next\r\n"),
        (FIRST + 1, "open"),
    ]
    .map(|(ts, text)| (Stream::Console, ts, text.as_bytes().to_vec()))
    .to_vec();
    for step in [1, 2, 7, 16_384, 16_415, 40_000, 100_000] {
        assert_eq!(decoded(Framing::Terminal, body.as_bytes(), step), (wanted.clone(), None));
    }
}

#[test]
fn a_time_that_the_program_printed_stays_in_its_line() {
    let body = format!("{T2} at {T1} it began\r\n{T2} {T1} and went on\r\n");
    let (messages, error) = decoded(Framing::Terminal, body.as_bytes(), 5);
    let texts: Vec<_> = messages.iter().map(|(.., text)| String::from_utf8_lossy(text)).collect();
    assert_eq!(
        (texts.join("|"), error),
        (format!("at {T1} it began\r\n|{T1} and went on\r\n"), None)
    );
}

#[test]
fn a_time_to_come_stays_in_its_line() {
    let future = "2099-11-24T10:20:30.000000001Z";
    let body = format!("{T1} until {future} it holds\r\n{T2} next\r\n");
    let wanted = vec![
        (Stream::Console, FIRST, format!("until {future} it holds\r\n").into_bytes()),
        (Stream::Console, FIRST + 1, b"next\r\n".to_vec()),
    ];
    assert_eq!(decoded(Framing::Terminal, body.as_bytes(), 7), (wanted, None));
}

#[test]
fn a_body_that_ends_within_a_message_is_cut() {
    let whole = framed(1, format!("{T1} out\n").as_bytes());
    for kept in 1..whole.len() {
        let (messages, error) = decoded(Framing::Multiplexed, &whole[..kept], 5);
        assert_eq!((messages, error), (Vec::new(), Some(FrameError::Cut)), "{kept}");
    }
}

#[test]
fn a_terminal_without_line_ends_takes_bounded_memory() {
    let mut body = format!("{T1} ").into_bytes();
    body.resize(2 * MESSAGE_BYTES_MAX + 1000, b'x');
    let (messages, error) = decoded(Framing::Terminal, &body, 60_000);
    let lengths: Vec<_> = messages.iter().map(|(_, ts, text)| (*ts, text.len())).collect();
    assert_eq!(
        (lengths, error),
        (vec![(FIRST, MESSAGE_BYTES_MAX), (FIRST, MESSAGE_BYTES_MAX), (FIRST, 969)], None)
    );
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused_without_a_panic_and_alike_in_any_chunks(
        body in proptest::collection::vec(prop_oneof![
            Just(b'\n'), Just(b' '), Just(b'Z'), Just(1_u8), Just(0), any::<u8>(),
        ], 0..200),
        time in any::<bool>(),
        step in 1_usize..20,
    ) {
        let body = if time { [format!("{T1} ").as_bytes(), &body].concat() } else { body };
        for framing in [Framing::Multiplexed, Framing::Terminal] {
            let (whole, error) = decoded(framing, &body, body.len());
            let (cut, error_cut) = decoded(framing, &body, step);
            prop_assert_eq!(whole, cut);
            prop_assert_eq!(error.is_some(), error_cut.is_some());
        }
    }

    #[test]
    fn every_message_that_was_framed_comes_back(
        texts in proptest::collection::vec(
            (any::<bool>(), 0..2_000_000_000_i64, proptest::collection::vec(any::<u8>(), 0..50)),
            0..20,
        ),
        step in 1_usize..200,
    ) {
        let mut stamp = time::Stamp::default();
        let mut body = Vec::new();
        let mut wanted = Vec::new();
        for (is_err, ts, text) in texts {
            let message = [stamp.write(ts).as_slice(), b" ", &text].concat();
            body.extend(framed(1 + u8::from(is_err), &message));
            let stream = if is_err { Stream::Stderr } else { Stream::Stdout };
            wanted.push((stream, ts, text));
        }
        prop_assert_eq!(decoded(Framing::Multiplexed, &body, step), (wanted, None));
    }
}
