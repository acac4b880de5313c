//! What nginx writes: its access log in the format `combined`, with or without `"$http_x_forwarded_for"` behind it as
//! in its example configuration, and its error log.

use super::moment::Moment;
use super::scan::{Scan, is_number};
use super::{Fields, Value, access, put};

/// What nginx adds behind the message of an error, in its order (`ngx_http_log_error`).
const DETAILS: [(&str, &str); 8] = [
    ("client", ", client: "),
    ("server", ", server: "),
    ("request", ", request: "),
    ("subrequest", ", subrequest: "),
    ("upstream", ", upstream: "),
    ("host", ", host: "),
    ("referrer", ", referrer: "),
    ("login", ", login: "),
];

/// A line of one of the two.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    error(line).or_else(|| access::fields(line))
}

/// `2026/11/24 10:20:30 [error] 31#32: *5 message, client: 192.0.2.1, server: localhost, request: "GET / HTTP/1.1"`
fn error(line: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    let mut scan = Scan(line.trim_end());
    let time = scan.until(" [")?;
    fields.push(("time", Moment::of_nginx(time).map(Value::Time)?));
    put(&mut fields, "level", scan.until("] ")?);
    let (pid, tid) = scan.until(": ")?.split_once('#')?;
    if !is_number(pid) || !is_number(tid) {
        return None;
    }
    put(&mut fields, "pid", pid);
    put(&mut fields, "tid", tid);
    if let Some((number, rest)) = scan.0.strip_prefix('*').and_then(|rest| rest.split_once(' '))
        && is_number(number)
    {
        put(&mut fields, "connection", number);
        scan.0 = rest;
    }
    let mut details = DETAILS.iter();
    let parts = scan.0.find(", client: ").and_then(|at| scan.0.split_at_checked(at));
    let (message, rest) = parts.unwrap_or((scan.0, ""));
    put(&mut fields, "message", message);
    let mut rest = Scan(rest);
    while !rest.0.is_empty() {
        let (name, begin) = details.find(|(_, begin)| rest.0.starts_with(begin))?;
        rest.skip(begin)?;
        let value = if rest.0.starts_with('"') {
            rest.quoted()?
        } else {
            rest.take(rest.0.find(", ").unwrap_or(rest.0.len()))?
        };
        put(&mut fields, name, value);
    }
    Some(fields)
}
