//! What is said to net: a queue, and the one task that empties it into the socket.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::wire::net::{Answer, Guest, News, Refusal, Word};
use crate::wire::socket::AsyncSocket;

/// Words that wait for net.
const WORDS_MAX: usize = 1024;
/// Net takes a word in this time, or it is broken.
const SEND_TIME_MAX: Duration = Duration::from_secs(20);

/// Says something to net. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Words(mpsc::Sender<Said>);

/// A word and its descriptors.
pub(super) type Said = (Word, Vec<OwnedFd>);

/// Net is gone, or takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unheard;

impl Words {
    /// The queue, and the end that [`pass`] empties.
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(WORDS_MAX);
        (Self(sender), receiver)
    }

    /// Answers a question; descriptors are closed when nobody hears it.
    pub(super) async fn answer(&self, number: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        self.say(Word::Answer { number, answer }, descriptors).await;
    }

    /// Answers with a refusal.
    pub(super) async fn refuse(&self, number: u64, refusal: Refusal) {
        self.answer(number, Answer::Refused(refusal), Vec::new()).await;
    }

    /// Tells what happened.
    pub(super) async fn news(&self, news: News) {
        self.say(Word::News(news), Vec::new()).await;
    }

    /// Hands over a client that comes through a forward.
    pub(super) async fn guest(&self, guest: Guest, stream: OwnedFd) {
        self.say(Word::Guest(guest), vec![stream]).await;
    }

    /// Answers in the time that an honest net needs to take it.
    pub(super) async fn answer_in_time(
        &self,
        number: u64,
        answer: Answer,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Unheard> {
        let said = self.0.send((Word::Answer { number, answer }, descriptors));
        match tokio::time::timeout(SEND_TIME_MAX, said).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unheard),
        }
    }

    async fn say(&self, word: Word, descriptors: Vec<OwnedFd>) {
        // When net is gone, whatever was to be said has no listener, and its sessions end anyway.
        drop(self.0.send((word, descriptors)).await);
    }
}

/// Sends what was said until nobody can say anything more, or net does not take it.
pub(super) async fn pass(
    mut said: mpsc::Receiver<Said>,
    socket: &AsyncSocket,
) -> Result<(), Unheard> {
    while let Some((word, descriptors)) = said.recv().await {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = tokio::time::timeout(SEND_TIME_MAX, socket.send(&word, &borrowed)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Unheard),
        }
    }
    Ok(())
}
