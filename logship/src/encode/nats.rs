//! The client protocol of NATS (docs.nats.io, "Client Protocol") as far as a publisher to JetStream needs it.

use serde::Deserialize;
use serde_json::json;

use super::Fate;

#[cfg(test)]
mod tests;

/// Longest line of a server, in bytes: `INFO` may name many servers.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Longest message of a server that is read, in bytes: acknowledgements are short.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// Longest payload it takes, in bytes.
    #[serde(default)]
    pub max_payload: usize,
    /// Whether it wants to go on with TLS.
    #[serde(default)]
    pub tls_required: bool,
    /// Whether it knows headers of messages.
    #[serde(default)]
    pub headers: bool,
    /// What a key has to sign.
    #[serde(default)]
    pub nonce: Option<String>,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `INFO`.
    Info(Info),
    /// `MSG` or `HMSG`: to which subject, with which status, and what.
    Message {
        /// Where to.
        subject: String,
        /// The status in its headers, such as 503 when nobody listens.
        status: Option<u16>,
        /// What.
        payload: Vec<u8>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`, with its reason.
    Error(String),
}

/// What is no word of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server says something that is not of the NATS protocol")]
pub struct Gibberish;

/// What stands first in `bytes`, and how many of them it has; `None`: it has not all come yet.
pub fn said(bytes: &[u8]) -> Result<Option<(Said, usize)>, Gibberish> {
    let head = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(head, b"\r\n") else {
        return if bytes.len() >= LINE_BYTES_MAX { Err(Gibberish) } else { Ok(None) };
    };
    let line = head.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(Gibberish)?;
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    let used = end + 2;
    let said = match word.to_ascii_uppercase().as_str() {
        "INFO" => Said::Info(serde_json::from_str(rest).map_err(|_| Gibberish)?),
        "PING" => Said::Ping,
        "PONG" => Said::Pong,
        "+OK" => Said::Ok,
        "-ERR" => Said::Error(rest.trim_matches('\'').to_owned()),
        word @ ("MSG" | "HMSG") => {
            return message(word == "HMSG", rest, bytes.get(used..).unwrap_or_default())
                .map(|message| message.map(|(said, more)| (said, used + more)));
        }
        _ => return Err(Gibberish),
    };
    Ok(Some((said, used)))
}

/// `subject sid [reply-to] [header bytes] bytes`, and what follows the line.
fn message(has_headers: bool, line: &str, body: &[u8]) -> Result<Option<(Said, usize)>, Gibberish> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |from_end: usize| -> Result<usize, Gibberish> {
        let word = words.len().checked_sub(from_end).and_then(|at| words.get(at));
        word.and_then(|word| word.parse().ok()).ok_or(Gibberish)
    };
    let total = number(1)?;
    let header = if has_headers { number(2)? } else { 0 };
    let subject = words.first().ok_or(Gibberish)?;
    if total > MESSAGE_BYTES_MAX || header > total || words.len() < 3 {
        return Err(Gibberish);
    }
    let Some(whole) = body.get(..total + 2) else { return Ok(None) };
    let (content, end) = whole.split_at_checked(total).ok_or(Gibberish)?;
    let (header, payload) = content.split_at_checked(header).ok_or(Gibberish)?;
    if end != b"\r\n" {
        return Err(Gibberish);
    }
    // `NATS/1.0 503` or `NATS/1.0`.
    let first = header.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = std::str::from_utf8(first).ok().and_then(|first| {
        first.strip_prefix("NATS/1.0")?.split_ascii_whitespace().next()?.parse().ok()
    });
    let (subject, payload) = ((*subject).to_owned(), payload.to_vec());
    Ok(Some((Said::Message { subject, status, payload }, total + 2)))
}

/// Who we are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a> {
    /// A user and the password.
    pub user: Option<(&'a str, &'a str)>,
    /// A token instead.
    pub token: Option<&'a str>,
}

/// The first words of a client: who it is, where it wants to hear answers, and that it waits for a word.
#[must_use]
pub fn greeting(who: Who<'_>, is_tls: bool, inbox: &str) -> Vec<u8> {
    let mut connect = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": is_tls,
        "name": "logship",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "headers": true,
        "no_responders": true,
    });
    if let Some(object) = connect.as_object_mut() {
        let mut put = |key: &str, value: &str| object.insert(key.to_owned(), value.into());
        if let Some((user, password)) = who.user {
            put("user", user);
            put("pass", password);
        }
        if let Some(token) = who.token {
            put("auth_token", token);
        }
    }
    format!("CONNECT {connect}\r\nSUB {inbox}.* 1\r\nPING\r\n").into_bytes()
}

/// Adds a message that JetStream answers to `inbox.number`, under the name by which it knows a message again.
pub fn put_message(
    out: &mut Vec<u8>,
    subject: &str,
    inbox: &str,
    number: usize,
    id: &str,
    payload: &[u8],
) {
    let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    let (header, total) = (headers.len(), headers.len() + payload.len());
    let line = format!("HPUB {subject} {inbox}.{number} {header} {total}\r\n{headers}");
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// `JSStreamMessageExceedsMaximumErr`: the stream takes no message of this size.
const TOO_LARGE: u32 = 10_054;

/// The fate of a message, by its answer.
#[must_use]
pub fn fate(status: Option<u16>, payload: &[u8]) -> Fate {
    if let Some(status) = status {
        let why = match status {
            503 => " (no stream has its subject: make one, such as with `nats stream add`)",
            _ => "",
        };
        return Fate::Later(format!("{status}{why}"));
    }
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(Failure { err_code: TOO_LARGE, description, .. }), .. }) => {
            Fate::Never(description)
        }
        Ok(Answer { error: Some(Failure { code, description, .. }), .. }) => {
            Fate::Later(format!("{code} {description}"))
        }
        Ok(Answer { stream: Some(_), error: None }) => Fate::Stored,
        Ok(_) | Err(_) => Fate::Later("it is no JetStream that answered".to_owned()),
    }
}

/// A subject as the protocol has it: tokens between dots, none of them empty, without spaces and wildcards.
#[must_use]
pub fn subject(wanted: &str) -> String {
    let allowed = |c: char| match c {
        '*' | '>' => '_',
        c if c.is_whitespace() || c.is_control() => '_',
        c => c,
    };
    let token = |token: &str| if token.is_empty() { "_".to_owned() } else { token.to_owned() };
    let clean: String = wanted.chars().map(allowed).collect();
    clean.split('.').map(token).collect::<Vec<_>>().join(".")
}
