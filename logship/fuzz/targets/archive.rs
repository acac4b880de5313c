//! Records of an archive: any line is one or a fault, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::archive::Entry;

fuzz_target!(|line: &[u8]| {
    drop(Entry::parse(line));
});
