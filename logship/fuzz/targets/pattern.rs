//! Patterns of operators and labels: any text is a pattern or a fault, and a pattern takes any line apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::pattern::Pattern;

fuzz_target!(|input: (&str, &str)| {
    let (text, line) = input;
    if let Ok(pattern) = Pattern::new(text) {
        pattern.fields(line, |_, text| assert!(line.contains(text)));
    }
});
