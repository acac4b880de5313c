//! The header of klog and glog: `I0102 15:04:05.678901   12345 file.go:123] message`
//! (<https://github.com/kubernetes/klog>, `formatHeader`). It has neither year nor zone.

use super::scan::{Scan, is_number};
use super::{Fields, put};

/// Bytes of `0102 15:04:05.678901`.
const TIME_BYTES: usize = 20;

/// A line with such a header.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let mut scan = Scan(line.trim_end());
    let level = level(scan.take(1)?)?;
    let time = scan.take(TIME_BYTES)?;
    let is_time = time.bytes().enumerate().all(|(at, byte)| match at {
        4 => byte == b' ',
        7 | 10 => byte == b':',
        13 => byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    scan.skip(" ").filter(|()| is_time)?;
    scan.0 = scan.0.trim_start_matches(' ');
    let thread = scan.word().filter(|thread| is_number(thread))?;
    let caller = scan.until("] ").or_else(|| scan.0.strip_suffix(']').inspect(|_| scan.0 = ""))?;
    caller.rsplit_once(':').filter(|(_, line)| is_number(line))?;
    let mut fields = Fields::new();
    put(&mut fields, "level", level);
    put(&mut fields, "time", time);
    put(&mut fields, "thread", thread);
    put(&mut fields, "caller", caller);
    put(&mut fields, "message", scan.0);
    Some(fields)
}

/// The word for the letter.
pub(super) fn level(letter: &str) -> Option<&'static str> {
    Some(match letter {
        "I" => "info",
        "W" => "warning",
        "E" => "error",
        "F" => "fatal",
        _ => return None,
    })
}
