//! A notice as a mail (RFC 5322, with RFC 2045 and 2047 for what is not ASCII). Every value is base64 or one line of ASCII, so
//! none of them can begin a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::channel::address::{MailSettings, Mailbox};
use super::message::Words;

#[cfg(test)]
mod tests;

/// Bytes of UTF-8 in one encoded word: a line with one has at most 76 characters (RFC 2047, section 2).
const WORD_BYTES_MAX: usize = 39;

/// Longest value of a header that stays on one line as it is, in bytes.
const LINE_BYTES_MAX: usize = 66;

/// Characters of base64 on one line (RFC 2045, section 6.8).
const BASE64_LINE_CHARS: usize = 76;

/// The mail as it is sent, with the ends of lines that SMTP has.
pub(super) fn text(mail: &MailSettings, id: &str, now: Timestamp, words: &Words) -> String {
    let to: Vec<_> = mail.to.iter().map(mailbox).collect();
    let domain = mail.from.address.domain();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let mut out = format!(
        "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}.backup@{domain}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
        mailbox(&mail.from),
        to.join(",\r\n "),
        phrase(&words.title),
    );
    let body = STANDARD.encode(format!("{}\r\n", words.body.replace('\n', "\r\n")));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(BASE64_LINE_CHARS).unwrap_or((rest, ""));
        out.push_str(line);
        out.push_str("\r\n");
        rest = more;
    }
    out
}

fn mailbox(mailbox: &Mailbox) -> String {
    match &mailbox.name {
        None => mailbox.address.to_string(),
        Some(name) => format!("{} <{}>", encoded(name), mailbox.address),
    }
}

/// Text as it is where it can be, and as encoded words otherwise.
fn phrase(text: &str) -> String {
    let is_ascii = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_ascii && text.len() <= LINE_BYTES_MAX && !text.contains("=?") {
        return text.to_owned();
    }
    encoded(text)
}

/// Text as encoded words, each on a line of its own.
fn encoded(text: &str) -> String {
    let mut words = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if word.len() + character.len_utf8() > WORD_BYTES_MAX {
            words.push(std::mem::take(&mut word));
        }
        word.push(character);
    }
    words.push(word);
    let words = words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}
