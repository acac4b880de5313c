//! Servers that take batches over HTTP and say of each whether they have it. How a batch looks and what an answer
//! means is the matter of a [`Dialect`]; who is asked and how is the same for all of them.

use std::collections::VecDeque;

use super::batch::{Batch, Part, Poison, Refusals};
use super::failure::SinkFailure;
use super::options::{Batching, OptionFault, Options, SinkUrl};
use super::{Context, Pace, Sent};
use crate::encode::Controls;
use crate::wal::Frame;

pub mod client;
pub mod dialect;

use client::{Client, Endpoint, Reply};
use dialect::{Dialect, DialectSettings, Verdict};

/// A server, and how batches are made for it.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Who is asked, and how.
    pub endpoint: Endpoint,
    /// How batches look.
    pub dialect: DialectSettings,
    /// When a batch is sent.
    pub batching: Batching,
    /// What to do with what cannot be delivered.
    pub poison: Poison,
    /// What is sent beside lines.
    pub controls: Controls,
}

impl HttpSettings {
    pub(super) fn read(url: &SinkUrl, options: &mut Options<'_>) -> Result<Self, OptionFault> {
        let (dialect, path) = DialectSettings::read(url, options)?;
        let endpoint = Endpoint::read(url, &path, &dialect, options)?;
        Ok(Self {
            endpoint,
            dialect,
            batching: options.batching()?,
            poison: Poison::read(options)?,
            controls: options.controls(Controls::All)?,
        })
    }
}

/// Sends batches to a server that says of each whether it has it.
#[derive(Debug)]
pub struct HttpSink {
    settings: HttpSettings,
    client: Client,
    dialect: Dialect,
    batch: Batch,
    /// Parts of the batch that are still to be sent, in order; made at the first attempt.
    parts: VecDeque<Part>,
    refusals: Refusals,
    /// Bytes that arrived of the batch so far.
    sent: u64,
}

impl HttpSink {
    pub(super) fn open(settings: HttpSettings, log: &str) -> Result<Self, SinkFailure> {
        Ok(Self {
            client: Client::new(&settings.endpoint)?,
            dialect: Dialect::new(&settings.dialect, settings.controls, log),
            refusals: Refusals::new(settings.poison),
            settings,
            batch: Batch::default(),
            parts: VecDeque::new(),
            sent: 0,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        self.settings.batching.pace()
    }

    pub(super) fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        if self.is_full() {
            return from;
        }
        let Self { dialect, batch, settings, .. } = self;
        dialect.each(frame, from, &mut |record| {
            batch.push(&frame.meta, record);
            batch.len() < settings.batching.bytes
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.settings.batching.bytes
    }

    /// A batch that is refused is halved until the record is found that is refused alone.
    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        if self.parts.is_empty() {
            self.parts.push_back(self.batch.all());
        }
        while let Some(part) = self.parts.pop_front() {
            if context.stop.is_requested() {
                self.parts.push_front(part);
                return Err(SinkFailure::new("stopped before everything was sent"));
            }
            self.send(part)?;
        }
        self.batch.clear();
        Ok(Sent { bytes: std::mem::take(&mut self.sent), refused: self.refusals.take() })
    }

    /// Sends one part. What of it is still to be sent stands in front of the others afterwards.
    fn send(&mut self, mut part: Part) -> Result<(), SinkFailure> {
        let Self { client, dialect, batch, parts, refusals, sent, .. } = self;
        // All that was pushed may have been for others.
        if part.is_empty() {
            return Ok(());
        }
        let Reply { bytes, outcome } = client.post(&dialect.body(batch, &part));
        let verdict = outcome.and_then(|answer| dialect.judge(client.shown(), answer, &part));
        match verdict {
            Err(failure) => {
                parts.push_front(part);
                Err(failure)
            }
            Ok(Verdict::Taken) => {
                *sent += bytes;
                Ok(())
            }
            Ok(Verdict::Refused(sentence)) => match part.as_slice() {
                [alone] => {
                    let refused = refusals.refuse(batch, *alone, &sentence);
                    refused.inspect_err(|_| parts.push_front(part))
                }
                _ => {
                    let second = part.split_off(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(part);
                    Ok(())
                }
            },
            Ok(Verdict::Lost { records, sentence }) => {
                *sent += bytes;
                tracing::error!(records, "records are lost: {sentence}");
                if let Some(first) = part.first() {
                    refusals.note(batch, *first, records);
                }
                Ok(())
            }
            Ok(Verdict::Mixed { never, later, why }) => {
                *sent += bytes;
                let mut blocked = None;
                let mut again = later;
                for (at, sentence) in never {
                    if let Err(failure) = refusals.refuse(batch, at, &sentence) {
                        again.push(at);
                        blocked = Some(failure);
                    }
                }
                if again.is_empty() {
                    return Ok(());
                }
                again.sort_unstable();
                parts.push_front(again);
                Err(blocked.unwrap_or_else(|| SinkFailure::new(why)))
            }
        }
    }
}
