//! Notices to people: over a webhook, ntfy, Slack, Gotify or mail. Who has something to tell makes an [`Event`] and puts it
//! into an [`Outbox`]; it is told from there, in the background, over every channel that wants to know
//! (`docs/backup-notify.md`).

pub mod channel;
pub mod event;
pub mod outbox;
pub mod send;

mod mail;
mod message;
mod queue;

pub use channel::{Channel, ChannelError, Channels};
pub(crate) use event::plain;
pub use event::{Event, Kind};
pub use outbox::{ChannelCounts, Kept, Outbox, OutboxError};
pub use send::{CarrierError, Outcome};

use std::thread;

use queue::Notice;
use send::Carrier;

/// Tells one event over every channel at once, whatever kinds it wants, and says what came of each. Nothing is kept and nothing
/// tried again; the longest answer may take half a minute.
pub fn tell_once(channels: &Channels, event: &Event) -> Result<Vec<Outcome>, CarrierError> {
    let carriers =
        channels.iter().map(|channel| Carrier::new(channel).map(|carrier| (channel, carrier)));
    let carriers: Vec<_> = carriers.collect::<Result<_, CarrierError>>()?;
    let notice = Notice { id: outbox::id(), event: event.plain() };
    Ok(thread::scope(|scope| {
        let notice = &notice;
        let asked: Vec<_> = carriers
            .iter()
            .map(|(channel, carrier)| scope.spawn(move || carrier.send(channel, notice, 0)))
            .collect();
        let ended = asked.into_iter().map(|asked| {
            asked.join().unwrap_or_else(|_| Outcome::Refused {
                sentence: "the attempt broke off".to_owned(),
            })
        });
        ended.collect()
    }))
}
