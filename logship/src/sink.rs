//! Where records go. A new kind of sink is a file below this one, a variant of [`Sink`] and one of
//! [`settings::Target`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chores_common::shutdown::Shutdown;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::source::SourceMeta;
use crate::wal::{Frame, Position};

pub mod failure;
pub mod file;
pub mod options;
pub mod settings;
pub mod stats;
pub mod stdout;

pub mod fluent;
pub mod http;
pub mod kafka;
pub mod nats;
pub mod s3;
pub mod server;
pub mod socket;

pub mod batch;
mod connection;
mod tls;

use failure::SinkFailure;
use file::FileSink;
use fluent::FluentSink;
use http::HttpSink;
use kafka::KafkaSink;
use nats::NatsSink;
use s3::S3Sink;
use settings::Target;
use socket::SocketSink;
use stdout::Stdout;

/// A sink at work: it collects records and delivers them batch by batch.
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout(Box<Stdout>),
    /// Files.
    File(Box<FileSink>),
    /// A server of syslog or GELF.
    Socket(Box<SocketSink>),
    /// A server over HTTP.
    Http(Box<HttpSink>),
    /// A server of the forward protocol.
    Fluent(Box<FluentSink>),
    /// A topic of Kafka.
    Kafka(Box<KafkaSink>),
    /// JetStream of NATS.
    Nats(Box<NatsSink>),
    /// Objects in S3.
    S3(Box<S3Sink>),
}

/// What a delivery may use.
pub struct Context<'a> {
    /// The places of the log between which the batch lies.
    pub range: Range<Position>,
    /// Where the cursor is.
    pub committed: Position,
    /// The request to give up; every wait ends with it.
    pub stop: &'a Shutdown,
    /// For what is asynchronous.
    pub runtime: &'a Handle,
    /// Keeps a note of the sink beside the cursor, which stays where it is.
    pub keep: &'a mut dyn FnMut(Value) -> Result<(), SinkFailure>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("range", &self.range).finish_non_exhaustive()
    }
}

/// A batch that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes on the wire.
    pub bytes: u64,
    /// What of it the peer refused for good and the settings let go.
    pub refused: Vec<Refused>,
}

/// Records of one source, one behind the other, that a peer refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of which source.
    pub meta: Arc<SourceMeta>,
    /// The number of the first of them.
    pub first_seq: u64,
    /// How many.
    pub records: u64,
}

/// When a sink wants to do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a record waits for others; zero: as long as others are there already.
    pub batch_age: Duration,
    /// How far commits lie apart; zero: after each batch.
    pub commit_every: Duration,
    /// How long the peer has to say that it lost what was delivered, before the commit.
    pub settle: Duration,
    /// It may take records before they are durable, since it can take them back.
    pub runs_ahead: bool,
}

/// Calls the same method of whichever sink there is.
macro_rules! on_sink {
    ($self:expr, $sink:ident => $call:expr) => {
        match $self {
            Sink::Stdout($sink) => $call,
            Sink::File($sink) => $call,
            Sink::Socket($sink) => $call,
            Sink::Http($sink) => $call,
            Sink::Fluent($sink) => $call,
            Sink::Kafka($sink) => $call,
            Sink::Nats($sink) => $call,
            Sink::S3($sink) => $call,
        }
    };
}

impl Sink {
    /// Prepares the sink; `note` is what it kept beside its cursor, `log` the name of the log. Peers are not
    /// contacted.
    pub fn open(target: &Target, note: &Value, log: &str) -> Result<Self, SinkFailure> {
        Ok(match target {
            Target::Stdout(settings) => Self::Stdout(Box::new(Stdout::open(settings.clone())?)),
            Target::File(settings) => Self::File(Box::new(FileSink::open(settings.clone(), note)?)),
            Target::Socket(settings) => Self::Socket(Box::new(SocketSink::open(settings.clone())?)),
            Target::Http(settings) => Self::Http(Box::new(HttpSink::open(settings.clone(), log)?)),
            Target::Fluent(settings) => Self::Fluent(Box::new(FluentSink::open(settings.clone())?)),
            Target::Kafka(settings) => Self::Kafka(Box::new(KafkaSink::open(settings.clone())?)),
            Target::Nats(settings) => Self::Nats(Box::new(NatsSink::open(settings.clone(), log)?)),
            Target::S3(settings) => Self::S3(Box::new(S3Sink::open(settings, note, log)?)),
        })
    }

    /// When it wants to do what.
    #[must_use]
    pub fn pace(&self) -> Pace {
        on_sink!(self, sink => sink.pace())
    }

    /// Adds records of `frame` to the batch, from number `from` of it on, and says how many of the frame's
    /// records are in it then. A full sink takes nothing.
    pub fn push(&mut self, frame: &Frame, from: u32) -> u32 {
        on_sink!(self, sink => sink.push(frame, from))
    }

    /// Says that everything of the log before `at` was pushed, or is not for this sink.
    pub fn reached(&mut self, at: Position) {
        if let Self::S3(sink) = self {
            sink.reached(at);
        }
    }

    /// Whether the batch has to be delivered before it may grow.
    #[must_use]
    pub fn is_full(&self) -> bool {
        on_sink!(self, sink => sink.is_full())
    }

    /// Delivers the batch; after a failure it is still there.
    pub fn deliver(&mut self, context: &mut Context<'_>) -> Result<Sent, SinkFailure> {
        on_sink!(self, sink => sink.deliver(context))
    }

    /// Forgets the batch and what was not committed, after a loss: it will be pushed again.
    pub fn rewind(&mut self) {
        if let Self::Socket(sink) = self {
            sink.forget_batch();
        }
    }

    /// What is delivered so far is what the next commit is about.
    pub fn checkpoint(&mut self) {
        if let Self::File(sink) = self {
            sink.checkpoint();
        }
    }

    /// Makes sure of what was delivered, as far as that is possible.
    pub fn sync(&mut self) -> Result<(), SinkFailure> {
        match self {
            Self::File(sink) => sink.sync(),
            Self::Socket(sink) => sink.sync(),
            _ => Ok(()),
        }
    }

    /// What stands beside the cursor of the checkpoint.
    #[must_use]
    pub fn note(&self) -> Value {
        match self {
            Self::File(sink) => sink.note(),
            _ => Value::Null,
        }
    }

    /// The cursor and the note are kept.
    pub fn committed(&mut self) {
        if let Self::File(sink) = self {
            sink.committed();
        }
    }

    /// Nothing follows: makes as sure as the peer allows that it has everything.
    pub fn conclude(&mut self) -> Result<(), SinkFailure> {
        match self {
            Self::Socket(sink) => sink.conclude(),
            _ => Ok(()),
        }
    }

    /// Does what has to be done from time to time. Called when nothing else is to do: costs nothing unless it is
    /// time for it.
    pub fn tidy(&mut self) {
        if let Self::File(sink) = self {
            sink.tidy();
        }
    }

    /// Waits for what goes on in the background, and breaks it off at `stop`.
    pub fn finish(&mut self, stop: &Shutdown) {
        if let Self::File(sink) = self {
            sink.finish(stop);
        }
    }
}
