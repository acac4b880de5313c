//! Words for whoever runs the tests, shown although the test passes.
//!
//! The test runner keeps what passing tests print to itself; what was skipped or left behind must be seen
//! all the same, so this writes past it.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes one line to stderr with the name of the test; the macro [`notice!`](crate::notice!) calls it.
pub fn say(words: Arguments<'_>) {
    let thread = std::thread::current();
    let line = format!("[{}] {words}\n", thread.name().unwrap_or("harness"));
    // Nobody can be told that stderr is gone.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// `eprintln!` that is seen when the test passes.
#[macro_export]
macro_rules! notice {
    ($($words:tt)*) => { $crate::notice::say(format_args!($($words)*)) };
}
