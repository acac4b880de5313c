//! Access logs of web servers: the Common Log Format and what is appended to it.
//!
//! Sources: <https://httpd.apache.org/docs/2.4/logs.html>, `LogFormat` in the example configuration of httpd;
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html>, `log_format` in the one of nginx.

use super::moment::Moment;
use super::scan::{Scan, is_number};
use super::{Fields, Value, put, put_known};

/// `remote - user [time] "request" status bytes`, then maybe `"referer" "agent"`, then maybe `"forwarded for"`.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    let mut scan = Scan(line.trim_end());
    let remote = scan.word()?;
    put(&mut fields, "remote", remote);
    put_known(&mut fields, "ident", scan.word()?);
    // Whoever asks chooses this name; it may have spaces in it, but hardly a bracket.
    let user = scan.until("[")?.strip_suffix(' ')?;
    put_known(&mut fields, "user", user);
    let time = scan.until("]")?;
    fields.push(("time", Moment::of_access(time).map(Value::Time)?));
    scan.skip(" ")?;
    request(&mut fields, scan.quoted()?);
    scan.skip(" ")?;
    let status = scan.word()?;
    let bytes = scan.word()?;
    if !is_number(status) || (bytes != "-" && !is_number(bytes)) {
        return None;
    }
    put(&mut fields, "status", status);
    put_known(&mut fields, "bytes", bytes);
    for name in ["referer", "agent", "forwarded_for"] {
        if !scan.0.starts_with('"') {
            break;
        }
        put_known(&mut fields, name, scan.quoted()?);
        scan.0 = scan.0.trim_start_matches(' ');
    }
    put_known(&mut fields, "more", scan.0);
    Some(fields)
}

/// `GET /path HTTP/1.1`; what is no such request stays whole.
fn request<'a>(fields: &mut Fields<'a>, text: &'a str) {
    let parts = text.split_once(' ').and_then(|(method, rest)| {
        let (path, protocol) = rest.rsplit_once(' ')?;
        let is_method = method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        (is_method && !method.is_empty() && protocol.starts_with("HTTP/"))
            .then_some((method, path, protocol))
    });
    match parts {
        Some((method, path, protocol)) => {
            put(fields, "method", method);
            put(fields, "path", path);
            put(fields, "protocol", protocol);
        }
        None => put_known(fields, "request", text),
    }
}
