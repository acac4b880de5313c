//! A notice in the words of who takes it (pure).

use std::borrow::Cow;

use chores_common::template::Template;
use serde_json::{Value, json};

use super::channel::Channel;
use super::channel::address::Target;
use super::event::{Event, is_break, plain, turns};
use super::queue::Notice;

#[cfg(test)]
mod tests;

/// Version of the document that webhooks get; a new field does not change it.
const VERSION: u32 = 1;

/// Longest title, in characters: that of a subject line people still read.
const TITLE_CHARS_MAX: usize = 200;

/// Longest body, in bytes: ntfy makes a file of more than 4096.
const BODY_BYTES_MAX: usize = 3900;

/// Stands behind the `@` of values: without it, Slack's kin call everybody in a room for `@channel`.
const WORD_JOINER: char = '\u{2060}';

/// What templates may have in braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder {
    Time,
    Host,
    Job,
    Kind,
    What,
    Text,
    Details,
}

/// The same by name.
pub(super) const PLACEHOLDERS: [(&str, Placeholder); 7] = [
    ("time", Placeholder::Time),
    ("host", Placeholder::Host),
    ("job", Placeholder::Job),
    ("kind", Placeholder::Kind),
    ("what", Placeholder::What),
    ("text", Placeholder::Text),
    ("details", Placeholder::Details),
];

/// What people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    /// One line.
    pub(super) title: String,
    /// Lines.
    pub(super) body: String,
}

/// Title and body of a notice; `lost` were dropped before it.
pub(super) fn words(channel: &Channel, event: &Event, lost: u64) -> Words {
    let escape = match channel.target {
        Target::Slack { .. } => slack,
        _ => as_it_is,
    };
    let fill = |template: &Template<Placeholder>| {
        template.expand(|placeholder| escape(&value(placeholder, event)).into())
    };
    let mut body = lines(&fill(&channel.body), BODY_BYTES_MAX);
    if lost > 0 {
        let notices = if lost == 1 { "notice" } else { "notices" };
        body.push_str(&format!("\n({lost} {notices} before this one could not be delivered)"));
    }
    Words { title: plain(&fill(&channel.title), TITLE_CHARS_MAX), body: body.trim().to_owned() }
}

fn value(placeholder: Placeholder, event: &Event) -> Cow<'_, str> {
    match placeholder {
        Placeholder::Time => event.time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string().into(),
        Placeholder::Host => event.host.as_str().into(),
        Placeholder::Job => event.job.as_str().into(),
        Placeholder::Kind => event.kind.name().into(),
        Placeholder::What => event.kind.words().into(),
        Placeholder::Text => event.text.as_str().into(),
        Placeholder::Details => {
            let lines = event.details.iter().map(|(key, value)| format!("{key}: {value}"));
            lines.collect::<Vec<_>>().join("\n").into()
        }
    }
}

fn as_it_is(text: &str) -> String {
    text.to_owned()
}

/// A value for a text of Slack: `&`, `<` and `>` are its markup (docs.slack.dev, "Escaping text"), and mentions are none.
fn slack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.extend(['@', WORD_JOINER]),
            other => out.push(other),
        }
    }
    out
}

/// Lines without other control characters, cut at so many bytes.
fn lines(text: &str, bytes_max: usize) -> String {
    let mut out: String = text
        .chars()
        .filter(|character| !turns(*character))
        .map(|character| match character {
            '\n' => '\n',
            other if is_break(other) => ' ',
            other => other,
        })
        .collect();
    if out.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
        out.truncate(end);
        out.push('…');
    }
    out
}

/// The JSON of everything that is spoken to over HTTP; nothing for mail.
pub(super) fn document(target: &Target, notice: &Notice, words: &Words) -> Option<Value> {
    let Words { title, body } = words;
    let event = &notice.event;
    let is_alarm = event.kind.is_alarm();
    Some(match target {
        Target::Webhook { .. } => json!({
            "version": VERSION,
            "id": notice.id,
            "time": event.time,
            "host": event.host,
            "job": event.job,
            "kind": event.kind,
            "text": event.text,
            "details": event.details,
            "title": title,
            "body": body,
        }),
        // Without markup, so that names with asterisks stay what they are, and nobody fetches a link in them.
        Target::Slack { .. } => json!({
            "text": format!("{title}\n{body}").trim_end(),
            "mrkdwn": false,
            "unfurl_links": false,
            "unfurl_media": false,
        }),
        // docs.ntfy.sh, "Publish as JSON": 3 is the usual priority, 4 is high.
        Target::Ntfy { topic, .. } => json!({
            "topic": topic.expose(),
            "title": title,
            "message": body,
            "priority": if is_alarm { 4 } else { 3 },
            "tags": [if is_alarm { "warning" } else { "white_check_mark" }],
        }),
        // Clients make a noise from 8 on.
        Target::Gotify { .. } => json!({
            "title": title,
            "message": body,
            "priority": if is_alarm { 8 } else { 4 },
        }),
        Target::Smtp(_) => return None,
    })
}
