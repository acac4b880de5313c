//! What Apache httpd writes: its access logs in the formats `common`, `combined` and `vhost_combined`, and its error
//! log of 2.4 (`ErrorLogFormat` at its default) and 2.2.

use super::moment::Moment;
use super::scan::{Scan, is_number};
use super::{Fields, Value, access, put};

/// A line of one of them.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    if line.starts_with('[') { error(line) } else { host(line).or_else(|| access::fields(line)) }
}

/// `www.example.org:443 192.0.2.1 - - […`: the virtual host before the rest.
fn host(line: &str) -> Option<Fields<'_>> {
    let (host, rest) = line.split_once(' ')?;
    let (_, port) = host.rsplit_once(':')?;
    // An address of IPv6 looks alike, and has the name of a user behind it, which is hardly ever known.
    if !is_number(port) || rest.starts_with("- ") {
        return None;
    }
    let mut fields = access::fields(rest)?;
    put(&mut fields, "host", host);
    Some(fields)
}

/// `[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 3:tid 4] [client 192.0.2.1:9] AH00128: message`
fn error(line: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    let mut scan = Scan(line.trim_end());
    scan.skip("[")?;
    fields.push(("time", Moment::of_apache(scan.until("] ")?).map(Value::Time)?));
    scan.skip("[")?;
    let kind = scan.until("] ")?;
    // 2.2 names no module.
    let level = match kind.split_once(':') {
        Some((module, level)) => {
            put(&mut fields, "module", module);
            level
        }
        None => kind,
    };
    put(&mut fields, "level", level);
    if let Some(rest) = scan.0.strip_prefix("[pid ") {
        scan.0 = rest;
        let process = scan.until("] ")?;
        let (pid, tid) = process.split_once(":tid ").unwrap_or((process, ""));
        put(&mut fields, "pid", pid);
        if !tid.is_empty() {
            put(&mut fields, "tid", tid);
        }
    }
    if let Some(rest) = scan.0.strip_prefix("[client ") {
        scan.0 = rest;
        put(&mut fields, "client", scan.until("] ")?);
    }
    put(&mut fields, "message", scan.0);
    Some(fields)
}
