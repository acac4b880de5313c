//! Lines taken apart: any bytes are fields or none with every parser, never a panic; the same for their levels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::parse::level::level_of;
use logship::parse::parse;
use logship::source::Parse;

fuzz_target!(|line: &[u8]| {
    for name in Parse::NAMES {
        let Some(how) = Parse::named(name) else { continue };
        drop(parse(&how, line));
        let _level = level_of(&how, None, line);
    }
});
