//! Answers what `sessions` and `connections` ask. Only root and the gateway's own user are heard.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{sleep, timeout};

use super::audit;
use super::connections::{self, Connections};
use super::journal::Journal;
use super::sessions::{Running, Sessions};
use super::tap::Live;
use crate::cast::Encoder;
use crate::control::{self, Answer, Ask, Kind};
use crate::wire::net::{ConnectionId, News};

#[cfg(test)]
mod tests;

/// Who asks at the same time.
const CLIENTS_MAX: usize = 16;
/// A question comes in this time.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);
/// A question in bytes.
const ASK_BYTES_MAX: u64 = 4096;
/// A piece of an answer is taken in this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// What a client is told whose connection is ended.
const ENDED: &str = "the operator of the gateway has ended the connection";
/// How often it is looked whether a session that is watched has ended.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// After an error of accepting, before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const SOCKET_MODE: u32 = 0o600;

/// The socket in a state directory, where no other gateway is: what is there is of a former life. Needs a tokio runtime.
pub(super) fn listen(state: &Path) -> io::Result<UnixListener> {
    let path = control::socket(state);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// What is asked about.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    pub(super) sessions: Sessions,
    pub(super) connections: Connections,
    pub(super) journal: Journal,
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, subjects: Subjects) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket does not accept: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let subjects = subjects.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = answer(stream, &subjects).await {
                tracing::debug!("a question at the control socket is not answered: {error}");
            }
        });
    }
}

async fn answer(stream: UnixStream, subjects: &Subjects) -> io::Result<()> {
    let Subjects { sessions, connections, journal } = subjects;
    let asker = stream.peer_cred()?.uid();
    let mut stream = BufReader::new(stream);
    if asker != 0 && asker != rustix::process::geteuid().as_raw() {
        return say(&mut stream, &Answer::No("only root may ask".to_owned())).await;
    }
    let mut line = Vec::new();
    let mut bounded = (&mut stream).take(ASK_BYTES_MAX);
    timeout(ASK_TIME_MAX, bounded.read_until(b'\n', &mut line)).await??;
    let Ok(ask) = serde_json::from_slice::<Ask>(&line) else {
        return say(&mut stream, &Answer::No("the question is not understood".to_owned())).await;
    };
    let unknown = |name: &str| {
        let name = crate::login::shown(name);
        Answer::No(format!("there is no session or forward {name}: see `ssh-gateway sessions ls`"))
    };
    match ask {
        Ask::Sessions => {
            for session in sessions.told() {
                say(&mut stream, &Answer::Session(Box::new(session))).await?;
            }
            say(&mut stream, &Answer::Done).await
        }
        Ask::Kill(name) => match sessions.get(&name) {
            Some(running) => {
                audit::administrated(journal, "kill", &running.told, asker);
                running.end.cancel();
                say(&mut stream, &Answer::Done).await
            }
            None => say(&mut stream, &unknown(&name)).await,
        },
        Ask::Watch(name) => match sessions.get(&name) {
            Some(Running { tap: Some(tap), told, .. }) => {
                audit::administrated(journal, "watch", &told, asker);
                // Who watches keeps no recording open either.
                match tap.upgrade().map(|tap| tap.watch()) {
                    Some(live) => show(&mut stream, live, || sessions.get(&name).is_none()).await,
                    None => say(&mut stream, &Answer::Done).await,
                }
            }
            Some(Running { told, .. }) if told.kind == Kind::Forward => {
                let reason = "it is a forward, whose bytes do not go through here";
                say(&mut stream, &Answer::No(reason.to_owned())).await
            }
            Some(_) => {
                let reason = "the session is not recorded, and no terminal of a rule with linger, so its bytes do not go through here";
                say(&mut stream, &Answer::No(reason.to_owned())).await
            }
            None => say(&mut stream, &unknown(&name)).await,
        },
        Ask::Connections => {
            for told in counted(subjects) {
                say(&mut stream, &Answer::Connection(Box::new(told))).await?;
            }
            say(&mut stream, &Answer::Done).await
        }
        Ask::Disconnect(id) => match connections.get(id) {
            Some(open) => {
                audit::disconnected(journal, &open.told, asker);
                disconnect(id, &open, sessions).await;
                say(&mut stream, &Answer::Done).await
            }
            None => {
                let reason =
                    format!("there is no connection {id}: see `ssh-gateway connections ls`");
                say(&mut stream, &Answer::No(reason)).await
            }
        },
    }
}

/// What is told of the connections, with what each has open.
fn counted(subjects: &Subjects) -> Vec<control::Connection> {
    let counts = subjects.sessions.count();
    let mut told = subjects.connections.told();
    for one in &mut told {
        let count = counts.get(&one.connection).copied().unwrap_or_default();
        (one.sessions, one.forwards) = (count.sessions, count.forwards);
    }
    told
}

/// Ends a connection: net tells the client why, and what runs in it ends whether net does so or not.
async fn disconnect(connection: ConnectionId, open: &connections::Open, sessions: &Sessions) {
    open.is_ended.store(true, Ordering::Release);
    let end = || sessions.of(connection).into_iter().for_each(|running| running.end.cancel());
    end();
    let news = News::Disconnect { connection, reason: ENDED.to_owned() };
    // A net that takes nothing is stopped by its hub.
    drop(timeout(ANSWER_TIME_MAX, open.words.news(news)).await);
    // What was about to begin.
    end();
}

/// Shows what goes through until it is over.
async fn show(
    stream: &mut BufReader<UnixStream>,
    mut live: broadcast::Receiver<Live>,
    is_over: impl Fn() -> bool,
) -> io::Result<()> {
    let mut encoder = Encoder::default();
    let mut ignored = [0; 64];
    loop {
        let seen = tokio::select! {
            seen = live.recv() => seen,
            () = sleep(LOOK_PERIOD) => {
                if is_over() {
                    return say(stream, &Answer::Done).await;
                }
                continue;
            }
            // Who watches says nothing more: whatever comes is the end of it.
            read = stream.read(&mut ignored) => return read.map(|_| ()),
        };
        let answer = match seen {
            Ok(Live::Output(bytes)) => Answer::Output(encoder.text(&bytes)),
            Ok(Live::Size(size)) => Answer::Size(size.columns, size.rows),
            Err(RecvError::Lagged(pieces)) => Answer::Missed(pieces),
            Err(RecvError::Closed) => Answer::Done,
        };
        let is_done = answer == Answer::Done;
        say(stream, &answer).await?;
        if is_done {
            return Ok(());
        }
    }
}

async fn say(stream: &mut BufReader<UnixStream>, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(ANSWER_TIME_MAX, stream.write_all(&line)).await?
}
