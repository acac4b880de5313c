//! The broker's side of a portal: our own program in a container that opens sockets there.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hop::Task;
use crate::wire::portal::{Act, Opened, Order, Report};
use crate::wire::socket::{AsyncSocket, Socket};

/// A portal carries out an order in this time: connecting may take the kernel two minutes.
const ORDER_TIME_MAX: Duration = Duration::from_secs(150);
/// A portal takes an order in this time.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
/// A portal removes its socket files in this time when its connection ends.
const END_TIME: Duration = Duration::from_secs(2);

type Outcome = Result<(Opened, Option<OwnedFd>), String>;

/// A portal that runs.
#[derive(Debug)]
pub(super) struct Portal {
    task: Task,
    socket: AsyncSocket,
    number: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    gone: CancellationToken,
}

impl Portal {
    /// Talks to a portal that was started by `task`. Needs a tokio runtime.
    pub(super) fn over(task: Task, socket: Socket) -> std::io::Result<Arc<Self>> {
        let portal = Arc::new(Self {
            task,
            socket: socket.into_async()?,
            number: AtomicU64::new(1),
            waiting: Mutex::default(),
            gone: CancellationToken::new(),
        });
        tokio::spawn(listen(Arc::downgrade(&portal)));
        Ok(portal)
    }

    /// Whether it takes no orders any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Has something done; the number is for [`Act::Unlisten`]. The error is one sentence for the client.
    pub(super) async fn order(&self, act: Act) -> Result<(u64, Opened, Option<OwnedFd>), String> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(number, sender);
        let _forgotten = Forget { portal: self, number };
        let sent = timeout(SEND_TIME_MAX, self.socket.send(&Order { number, act }, &[])).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.gone.cancel();
            return Err(GONE.to_owned());
        }
        let answer = tokio::select! {
            answer = timeout(ORDER_TIME_MAX, receiver) => answer,
            () = self.gone.cancelled() => return Err(GONE.to_owned()),
        };
        match answer {
            Ok(Ok(outcome)) => outcome.map(|(opened, descriptor)| (number, opened, descriptor)),
            Ok(Err(_)) => Err(GONE.to_owned()),
            Err(_) => Err("it took too long".to_owned()),
        }
    }

    /// Ends it, after it has removed what it made.
    pub(super) async fn end(&self) {
        if let Err(error) = self.task.stop(END_TIME).await {
            tracing::debug!("a portal did not end as it should: {error}");
        }
        self.gone.cancel();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client is told.
const GONE: &str = "forwarding in the container ended";

/// Takes a waiting order off the list, however its wait ends.
struct Forget<'a> {
    portal: &'a Portal,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.portal.waiting().remove(&self.number);
    }
}

/// Hands on reports while anybody has the portal.
async fn listen(portal: std::sync::Weak<Portal>) {
    loop {
        let Some(portal) = portal.upgrade() else { return };
        // A look now and then whether anybody still has it.
        let Ok(received) = timeout(LOOK_PERIOD, portal.socket.receive::<Report>()).await else {
            continue;
        };
        let Ok(Some((Report { number, result }, descriptors))) = received else {
            portal.gone.cancel();
            return;
        };
        let waiting = portal.waiting().remove(&number);
        if let Some(sender) = waiting {
            let outcome = result.map(|opened| (opened, descriptors.into_iter().next()));
            // Nobody may wait any more: then the descriptor is closed here.
            drop(sender.send(outcome));
        }
    }
}

/// How often it is looked whether anybody still has the portal.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
