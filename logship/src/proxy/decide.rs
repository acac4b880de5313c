//! Which requests to the engine are allowed, and how they are asked.
//!
//! Source: the Docker Engine API, version 1.41 (<https://docs.docker.com/reference/api/engine/version/v1.41/>).

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, ORIGIN, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Uri};

#[cfg(test)]
mod tests;

/// The label by which a container asks for a signal: `signal:USR1`.
pub const LABEL: &str = "chores.logship.reopen";

/// Signals by which programs are told to open their log files again, and none that ends them by default but for a
/// program that does not know it.
pub const SIGNALS: [&str; 4] = ["HUP", "USR1", "USR2", "WINCH"];

/// What headers begin with that only browsers send (Fetch Metadata).
const BROWSER: &str = "sec-fetch-";

/// Bytes of a path with its query.
const PATH_BYTES_MAX: usize = 4096;

/// Bytes of the name of a container; ids have 64.
const NAME_BYTES_MAX: usize = 255;

/// Digits of a part of a version, and of a number in a query.
const VERSION_DIGITS_MAX: usize = 3;
const NUMBER_BYTES_MAX: usize = 32;

/// Characters of a label's value that are told.
const LABEL_SHOWN_MAX: usize = 64;

/// Values of one filter.
const FILTERS_MAX: usize = 64;

/// What happens to containers that may be asked for: nothing that has a command line in it, as `exec_create` does.
const EVENTS: [&str; 12] = [
    "create", "start", "restart", "die", "stop", "kill", "destroy", "rename", "pause", "unpause",
    "oom", "update",
];

/// A request as it goes to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its method.
    pub method: Method,
    /// Its path and query, written anew.
    pub path: String,
    /// What happens to the answer.
    pub kind: Kind,
}

/// What happens to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It is handed on as it comes.
    Stream {
        /// It has no end of its own.
        goes_on: bool,
    },
    /// It is a list of containers.
    List,
    /// It is one container.
    Inspect,
    /// The label of the container is looked at first.
    Kill {
        /// `/v1.41`, or nothing.
        version: String,
        /// The container.
        name: String,
        /// Without `SIG`.
        signal: &'static str,
    },
}

/// Why a request is not allowed: a sentence for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("logship socket-proxy: {0}")]
pub struct Refusal(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the socket: nothing but a program of this host can.
    Socket,
    /// By TCP: a browser can, for a page whose name somebody has led to our address.
    Tcp,
}

/// What to ask the engine for a request; `has_body` when anything follows its head.
pub fn decide(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    has_body: bool,
    way: Way,
) -> Result<Ask, Refusal> {
    if uri.scheme().is_some() || uri.authority().is_some() {
        return refuse("a request must name a path, not an address");
    }
    // Only browsers send an origin, on behalf of a page that has no business here.
    for name in [UPGRADE, EXPECT, TRANSFER_ENCODING, ORIGIN] {
        if headers.contains_key(&name) {
            return refuse(format!("the header {name} is not allowed"));
        }
    }
    if let Some(name) = headers.keys().find(|name| name.as_str().starts_with(BROWSER)) {
        return refuse(format!("the header {name} is not allowed"));
    }
    if way == Way::Tcp && !headers.get_all(HOST).iter().all(is_local) {
        return refuse("over TCP, the header host must be an address, or a name without dots");
    }
    let is_empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
    if has_body || !is_empty {
        return refuse("a request must not have a body");
    }
    let path = uri.path();
    if path.len() + uri.query().map_or(0, str::len) > PATH_BYTES_MAX {
        return refuse(format!("a path must not have more than {PATH_BYTES_MAX} bytes"));
    }
    // What means something else to another reader is refused, not interpreted: `%2e`, `//`, `\`, `;`.
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
    if !path.bytes().all(is_plain) || path.contains("//") {
        return refuse("a path must consist of letters, digits, `.`, `_`, `-` and single `/`");
    }
    let (version, rest) = split_version(path);
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return refuse("a path must not lead through `.` or `..`");
    }
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let stream = |goes_on| Kind::Stream { goes_on };
    let (query, kind) = match (method, parts.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) | (&Method::GET, ["version"]) => {
            (query.only(&[])?, stream(false))
        }
        (&Method::GET, ["events"]) => (query.only(&EVENTS_QUERY)?, stream(true)),
        (&Method::GET, ["containers", "json"]) => (query.only(&LIST_QUERY)?, Kind::List),
        (&Method::GET, ["containers", name, "json"]) => {
            check_name(name)?;
            (query.only(&INSPECT_QUERY)?, Kind::Inspect)
        }
        (&Method::GET, ["containers", name, "logs"]) => {
            check_name(name)?;
            let goes_on = query.is_true("follow");
            (query.only(&LOGS_QUERY)?, stream(goes_on))
        }
        (&Method::POST, ["containers", name, "kill"]) => {
            check_name(name)?;
            let signal = signal(query.0.get("signal").map(String::as_str))?;
            let (version, name) = (version.to_owned(), (*name).to_owned());
            (query.only(&[("signal", Value::Signal)])?, Kind::Kill { version, name, signal })
        }
        _ => {
            return refuse(format!(
                "{method} {path} is not allowed; allowed are GET of _ping, version, events, containers/json, containers/NAME/json and containers/NAME/logs, and POST of containers/NAME/kill with the signal that the container's label {LABEL} names"
            ));
        }
    };
    Ok(Ask { method: method.clone(), path: format!("{version}{rest}{query}"), kind })
}

/// Whether a host is no name of a page somewhere: those have dots.
fn is_local(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    !name.contains('.') || address.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// `/v1.41` and the rest; the first is empty when there is none.
fn split_version(path: &str) -> (&str, &str) {
    let is_number = |text: &str| {
        (1..=VERSION_DIGITS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let version = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let (major, minor) = rest.get(..end)?.split_once('.')?;
        (is_number(major) && is_number(minor)).then_some(end + 2)
    });
    path.split_at(version.unwrap_or(0))
}

/// The names that the engine itself allows.
fn check_name(name: &str) -> Result<(), Refusal> {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    refuse(format!("{name:?} is no name or id of a container"))
}

/// A signal that may be sent.
fn signal(name: Option<&str>) -> Result<&'static str, Refusal> {
    // Without one the engine sends SIGKILL.
    let Some(name) = name else { return refuse("kill must name a signal") };
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let known = SIGNALS.iter().find(|known| **known == short);
    known.copied().map_or_else(
        || {
            refuse(format!(
                "the signal {name:?} is not allowed; allowed are {}",
                SIGNALS.join(", ")
            ))
        },
        Ok,
    )
}

/// Whether a container may get a signal, by the value of its label.
pub fn may_signal(name: &str, signal: &str, label: Option<&str>) -> Result<(), Refusal> {
    let asked = label.map(str::trim).and_then(|label| label.strip_prefix("signal:"));
    let asked = asked.map(|asked| asked.trim().to_ascii_uppercase());
    if asked.is_some_and(|asked| asked.strip_prefix("SIG").unwrap_or(&asked) == signal) {
        return Ok(());
    }
    refuse(match label {
        None => format!("the container {name} has no label {LABEL}=signal:{signal}"),
        Some(label) => {
            let label: String = label.chars().take(LABEL_SHOWN_MAX).collect();
            format!("the label {LABEL} of the container {name} is {label:?}, not signal:{signal}")
        }
    })
}

/// What a value of a query may be.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// `true`, `1`, `false` or `0`.
    Switch,
    /// `false` or `0`: what it switches on is not allowed.
    Off,
    /// A number, maybe with a fraction.
    Number,
    /// A number, or `all`.
    Tail,
    /// One of [`SIGNALS`], which is checked already.
    Signal,
    /// Filters of a list of containers.
    Containers,
    /// Filters of events, which must be there.
    Events,
}

type Known = (&'static str, Value);

const EVENTS_QUERY: [Known; 3] =
    [("filters", Value::Events), ("since", Value::Number), ("until", Value::Number)];
const LIST_QUERY: [Known; 4] = [
    ("all", Value::Switch),
    ("filters", Value::Containers),
    ("limit", Value::Number),
    ("size", Value::Off),
];
const INSPECT_QUERY: [Known; 1] = [("size", Value::Off)];
const LOGS_QUERY: [Known; 8] = [
    // The environment of the container, as far as a log driver was told to add it.
    ("details", Value::Off),
    ("follow", Value::Switch),
    ("since", Value::Number),
    ("stderr", Value::Switch),
    ("stdout", Value::Switch),
    ("tail", Value::Tail),
    ("timestamps", Value::Switch),
    ("until", Value::Number),
];

/// The query of a request, decoded; no key twice.
#[derive(Debug)]
struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut pairs = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(key), Some(value)) = (decode(key), decode(value)) else {
                return refuse("the query cannot be read");
            };
            if pairs.contains_key(&key) {
                return refuse(format!("the query has {key:?} twice"));
            }
            pairs.insert(key, value);
        }
        Ok(Self(pairs))
    }

    fn is_true(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| matches!(value.as_str(), "1" | "true"))
    }

    /// The query with only these keys and such values, written anew; with `?` in front unless it is empty.
    fn only(&self, known: &[Known]) -> Result<String, Refusal> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            let Some((_, kind)) = known.iter().find(|(known, _)| known == key) else {
                return refuse(format!("{key:?} is not allowed in this query"));
            };
            let value = kind.checked(value).map_err(|why| Refusal(format!("{key}: {why}")))?;
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            encode(&mut text, &value);
        }
        let wants_events = known.iter().any(|(_, kind)| matches!(kind, Value::Events));
        if wants_events && !self.0.contains_key("filters") {
            return refuse(r#"events must be filtered by {"type":["container"],"event":[…]}"#);
        }
        Ok(text)
    }
}

impl Value {
    fn checked(self, value: &str) -> Result<String, String> {
        let is_number = |text: &str| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let are_digits =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.len() <= NUMBER_BYTES_MAX && are_digits(whole) && are_digits(fraction)
        };
        let is_so = match self {
            Self::Switch => matches!(value, "0" | "1" | "true" | "false"),
            Self::Off => matches!(value, "0" | "false"),
            Self::Number => is_number(value),
            Self::Tail => value == "all" || is_number(value),
            Self::Signal => true,
            Self::Containers => return filters(value, &["label", "status", "name", "id"], None),
            Self::Events => {
                return filters(value, &["type", "event", "container", "label"], Some(&EVENTS));
            }
        };
        if is_so { Ok(value.to_owned()) } else { Err(format!("{value:?} is not allowed")) }
    }
}

/// Filters, written anew. With `events`, they must leave nothing but these events of containers.
fn filters(text: &str, keys: &[&str], events: Option<&[&str]>) -> Result<String, String> {
    let filters: BTreeMap<String, Vec<String>> = serde_json::from_str(text)
        .map_err(|_| "it must be a JSON object of lists of texts".to_owned())?;
    if let Some(key) = filters.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("{key:?} is not allowed; allowed are {}", keys.join(", ")));
    }
    if filters.values().any(|values| values.len() > FILTERS_MAX) {
        return Err(format!("there are more than {FILTERS_MAX} values"));
    }
    if let Some(events) = events {
        let of = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        if of("type") != ["container"] {
            return Err(r#"type must be ["container"]"#.to_owned());
        }
        let asked = of("event");
        if asked.is_empty() || !asked.iter().all(|event| events.contains(&event.as_str())) {
            return Err(format!("event must name some of {}", events.join(", ")));
        }
    }
    serde_json::to_string(&filters).map_err(|error| error.to_string())
}

/// `%7B` and `+` as what they stand for; `None` when it is no UTF-8 or cut off.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The opposite; only what never means anything else stays as it is (RFC 3986, section 2.3).
fn encode(out: &mut String, text: &str) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or('0');
            out.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
}
