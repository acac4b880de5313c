//! The engine's log API: any bytes, cut into any chunks, are messages or one error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::api::frames::{Decoder, Framing};

/// A moment that all times of a corpus are before: 2100.
const NOW: i64 = 4_102_444_800_000_000_000;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_terminal, chunk, bytes) = input;
    let framing = if is_terminal { Framing::Terminal } else { Framing::Multiplexed };
    let mut decoder = Decoder::new(framing);
    for chunk in bytes.chunks(usize::from(chunk).max(1)) {
        decoder.push(chunk, NOW);
        while let Some(message) = decoder.message() {
            if message.is_err() {
                return;
            }
        }
    }
    while let Some(Ok(_)) = decoder.finish() {}
});
