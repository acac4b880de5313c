//! The engine's own log files, both formats: every byte is taken once, as a message or as damage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::direct::entry::{Decoder, Format, Step};

fuzz_target!(|input: (bool, &[u8])| {
    let (is_local, mut bytes) = input;
    let format = if is_local { Format::Local } else { Format::JsonFile };
    let mut decoder = Decoder::new(format);
    loop {
        let taken = match decoder.step(bytes, true) {
            Step::Entry(_, taken) | Step::Corrupt(taken) => taken,
            Step::More => break,
        };
        assert!((1..=bytes.len()).contains(&taken), "a step takes nothing, or more than there is");
        bytes = &bytes[taken..];
    }
});
