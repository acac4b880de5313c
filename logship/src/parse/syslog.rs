//! Syslog messages: RFC 5424 (section 6), RFC 3164 (section 4.1), and the latter without a priority, as daemons write
//! it into files, there often with a time of RFC 3339.

use super::moment::{Moment, of_rfc3164};
use super::scan::{Scan, is_number};
use super::{Fields, put, put_known};

/// Facilities by number (RFC 5424, table 1), in the words of `syslog.conf`.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Severities by number (RFC 5424, table 2).
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// A line of one of the forms.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    let mut scan = Scan(line.trim_end());
    let mut has_priority = false;
    if scan.0.starts_with('<') {
        scan.skip("<")?;
        let number = scan.until(">").filter(|number| is_number(number) && number.len() <= 3)?;
        let priority: usize = number.parse().ok()?;
        put(&mut fields, "facility", *FACILITIES.get(priority / 8)?);
        put(&mut fields, "severity", *SEVERITIES.get(priority % 8)?);
        has_priority = true;
    }
    match scan.0.strip_prefix("1 ") {
        Some(rest) if has_priority => modern(fields, Scan(rest)),
        _ => traditional(fields, scan),
    }
}

/// What follows `<34>1 `: time, host, program, process, kind, structured data, message.
fn modern<'a>(mut fields: Fields<'a>, mut scan: Scan<'a>) -> Option<Fields<'a>> {
    let time = scan.until(" ")?;
    if time != "-" {
        put(&mut fields, "time", Moment::of_rfc3339(time)?);
    }
    for name in ["hostname", "app", "pid", "msgid"] {
        put_known(&mut fields, name, scan.until(" ").filter(|word| !word.is_empty())?);
    }
    if scan.0 == "-" || scan.0.starts_with("- ") {
        scan.take(1)?;
    } else {
        let data = scan.take(structured(scan.0)?)?;
        put(&mut fields, "data", data);
    }
    let message = match scan.0 {
        "" => "",
        rest => rest.strip_prefix(' ')?,
    };
    // The mark of UTF-8 is no part of the text (section 6.4).
    put_known(&mut fields, "message", message.strip_prefix('\u{feff}').unwrap_or(message));
    Some(fields)
}

/// How many bytes at the beginning are elements: `[id name="value"]…`, where `\"`, `\\` and `\]` are escaped.
fn structured(text: &str) -> Option<usize> {
    let (mut is_open, mut is_quoted, mut is_escaped) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if is_open => is_quoted = !is_quoted,
            b']' if is_open && !is_quoted => is_open = false,
            _ if is_open => {}
            b'[' => is_open = true,
            b' ' if at > 0 => return Some(at),
            _ => return None,
        }
    }
    (!is_open && !text.is_empty()).then_some(text.len())
}

/// `Oct 11 22:14:15 host su[12]: message`; the host is left out by what writes for its own machine.
fn traditional<'a>(mut fields: Fields<'a>, mut scan: Scan<'a>) -> Option<Fields<'a>> {
    let mut dated = scan;
    let time = match of_rfc3164(&mut dated) {
        Some(time) => {
            scan = dated;
            time
        }
        None => {
            let time = Moment::of_rfc3339(scan.0.split(' ').next()?)?;
            scan.take(time.len())?;
            time
        }
    };
    put(&mut fields, "time", time);
    scan.skip(" ")?;
    let begin = scan;
    let host = scan.word()?;
    if host.ends_with(':') || host.ends_with(']') {
        scan = begin;
    } else {
        put_known(&mut fields, "hostname", host);
    }
    let message = match tag(scan) {
        Some((app, pid, rest)) => {
            put(&mut fields, "app", app);
            if let Some(pid) = pid {
                put_known(&mut fields, "pid", pid);
            }
            rest
        }
        None => scan.0,
    };
    put_known(&mut fields, "message", message);
    Some(fields)
}

/// `su: `, `su[12]: `: program, process, and the rest. RFC 3164 allows 32 letters and digits; real names have more
/// characters, but no spaces.
fn tag(scan: Scan<'_>) -> Option<(&str, Option<&str>, &str)> {
    let (tag, rest) = match scan.0.split_once(": ") {
        Some(parts) => parts,
        None => (scan.0.strip_suffix(':')?, ""),
    };
    if tag.is_empty() || tag.contains(' ') {
        return None;
    }
    match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
        Some((app, pid)) => Some((app, Some(pid), rest)),
        None => Some((tag, None, rest)),
    }
}
