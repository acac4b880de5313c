//! What collectors say: any bytes are an answer, the beginning of one, or none, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::encode::{bulk, fluent, kafka, nats, otlp};

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 5 {
        0 => drop(bulk::fates(bytes, 2)),
        1 => drop(fluent::said(bytes)),
        2 => drop(otlp::rejected(bytes)),
        3 => {
            drop(kafka::metadata(bytes));
            drop(kafka::produced(bytes));
            drop(kafka::producer(bytes));
            drop(kafka::login(bytes));
        }
        _ => {
            let mut rest = bytes;
            while let Ok(Some((said, used))) = nats::said(rest) {
                if let nats::Said::Message { status, payload, .. } = said {
                    drop(nats::fate(status, &payload));
                }
                rest = rest.get(used..).unwrap_or_default();
            }
        }
    }
});
