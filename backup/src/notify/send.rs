//! One attempt to tell one notice, and what came of it.

use std::time::Duration;

use chores_common::exit::chain;
use chores_common::http::{Answer, HttpClient, HttpSettings, Post};
use chores_common::secret::Secret;
use chores_common::tls::TlsError;
use jiff::Timestamp;

use super::channel::Channel;
use super::channel::address::Target;
use super::mail;
use super::message::{self, Words};
use super::queue::Notice;

pub mod postman;

use postman::Postman;

#[cfg(test)]
mod tests;

/// How long an attempt may take, from the first packet to the last.
pub(super) const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of an answer over HTTP that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server has it.
    Accepted,
    /// It may work another time.
    Later {
        /// Why it did not.
        sentence: String,
        /// When the server wants to be asked again.
        after: Option<Duration>,
        /// It may be this notice that the server chokes on, and not all of them.
        may_be_its_own: bool,
    },
    /// The server will never take it.
    Refused {
        /// Why not.
        sentence: String,
    },
}

/// A channel that cannot be spoken to from this machine.
#[derive(Debug, thiserror::Error)]
#[error("the channel {name} ({shown}) is unusable")]
pub struct CarrierError {
    name: String,
    shown: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What speaks to the server of one channel.
#[derive(Debug)]
pub(super) enum Carrier {
    /// Over HTTP.
    Http(HttpClient),
    /// A mail server.
    Mail(Postman),
}

impl Carrier {
    /// Reads the certificates that are trusted.
    pub(super) fn new(channel: &Channel) -> Result<Self, CarrierError> {
        let shown = channel.target.shown();
        let fail = |source| CarrierError {
            name: channel.name.clone(),
            shown: channel.to_string(),
            source,
        };
        match &channel.target {
            Target::Smtp(settings) => Postman::new(settings, &channel.tls)
                .map(Self::Mail)
                .map_err(|error| fail(Box::new(error))),
            _ => HttpClient::new(HttpSettings {
                user_agent: concat!("backup/", env!("CARGO_PKG_VERSION")),
                time: ATTEMPT_TIME_MAX,
                tls: shown.starts_with("https:").then_some((&channel.tls, shown.as_str())),
            })
            .map(Self::Http)
            .map_err(|error: TlsError| fail(Box::new(error))),
        }
    }

    /// Tells one notice; `lost` were dropped before it.
    pub(super) fn send(&self, channel: &Channel, notice: &Notice, lost: u64) -> Outcome {
        let words = message::words(channel, &notice.event, lost);
        match (self, &channel.target) {
            (Self::Http(client), target) => post(client, target, notice, &words),
            (Self::Mail(postman), Target::Smtp(settings)) => {
                let text = mail::text(settings, &notice.id, Timestamp::now(), &words);
                postman.send(settings, &text)
            }
            (Self::Mail(_), _) => later("there is no mail server", None, false),
        }
    }
}

fn post(client: &HttpClient, target: &Target, notice: &Notice, words: &Words) -> Outcome {
    let Some(document) = message::document(target, notice, words) else {
        return later("there is nothing to send", None, false);
    };
    let (url, token, more): (_, _, &[(String, Secret)]) = match target {
        Target::Webhook { url, token, headers, .. } => (url, token.as_ref(), headers.as_slice()),
        Target::Slack { url, .. } => (url, None, &[]),
        Target::Ntfy { url, token, .. } => (url, token.as_ref(), &[]),
        Target::Gotify { url, token, .. } => (url, Some(token), &[]),
        Target::Smtp(_) => return later("there is no server over HTTP", None, false),
    };
    let bearer = token.map(|token| format!("Bearer {}", token.expose()));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.expose())));
    match (target, token, &bearer) {
        (Target::Gotify { .. }, Some(token), _) => headers.push(("x-gotify-key", token.expose())),
        (_, _, Some(bearer)) => headers.push(("authorization", bearer.as_str())),
        _ => {}
    }
    let topic = match target {
        Target::Ntfy { topic, .. } => Some(topic),
        _ => None,
    };
    let secrets = token.into_iter().chain(topic).chain(more.iter().map(|(_, value)| value));
    let secrets: Vec<&Secret> = secrets.collect();
    let answered = client.post(Post {
        url,
        shown: &target.shown(),
        headers: &headers,
        secrets: &secrets,
        body: document.to_string().as_bytes(),
        answer_bytes_max: ANSWER_BYTES_MAX,
        wants_body: false,
    });
    match answered {
        Ok(answer) => judge(answer),
        Err(error) => later(&chain(&error), None, false),
    }
}

/// What an answer over HTTP means (RFC 9110, section 15). Only what is said of the content is final: a token that is no longer valid or
/// a server that is being updated is no reason to throw notices away.
fn judge(answer: Answer) -> Outcome {
    let Answer { status, sentence, retry_after, .. } = answer;
    match status {
        200..300 => Outcome::Accepted,
        400 | 413 | 415 | 422 => Outcome::Refused { sentence },
        300..400 => later(&format!("{sentence}; write the URL that it leads to"), None, false),
        // Those of a server that is busy or behind one that is away: the next notice would fare no better.
        502..=504 => later(&sentence, retry_after, false),
        500.. => later(&sentence, retry_after, true),
        _ => later(&sentence, retry_after, false),
    }
}

pub(super) fn later(sentence: &str, after: Option<Duration>, may_be_its_own: bool) -> Outcome {
    Outcome::Later { sentence: sentence.to_owned(), after, may_be_its_own }
}
