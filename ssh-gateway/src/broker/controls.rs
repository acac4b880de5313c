//! Answers what `sessions` asks. Only root and the gateway's own user are heard.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{sleep, timeout};

use super::audit;
use super::journal::Journal;
use super::sessions::{Running, Sessions};
use super::tap::Live;
use crate::cast::Encoder;
use crate::control::{self, Answer, Ask};

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

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, sessions: Sessions, journal: Journal) {
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
        let (sessions, journal) = (sessions.clone(), journal.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = answer(stream, &sessions, &journal).await {
                tracing::debug!("a question at the control socket is not answered: {error}");
            }
        });
    }
}

async fn answer(stream: UnixStream, sessions: &Sessions, journal: &Journal) -> io::Result<()> {
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
        Answer::No(format!("there is no session {name}: see `ssh-gateway sessions ls`"))
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
            Some(_) => {
                let reason = "the session is not recorded, and no terminal of a rule with linger, so its bytes do not go through here";
                say(&mut stream, &Answer::No(reason.to_owned())).await
            }
            None => say(&mut stream, &unknown(&name)).await,
        },
    }
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
