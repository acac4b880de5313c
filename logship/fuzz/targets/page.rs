//! What a browser asks for, and what labels say of rotation: any text is understood or refused in a sentence, never a
//! panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::rotation::{Reopen, Wishes};
use logship::ui::line::Key;
use logship::ui::query::Asked;

fuzz_target!(|input: (u8, &str)| {
    let (kind, text) = input;
    match kind % 4 {
        0 => {
            if let Ok(asked) = Asked::parse(text, 0) {
                assert!(asked.page().limit > 0);
            }
        }
        1 => {
            if let Some(key) = Key::parse(text) {
                assert_eq!(Key::parse(&key.to_string()), Some(key));
            }
        }
        2 => drop(Wishes::parse(text)),
        _ => drop(Reopen::parse(text)),
    }
});
