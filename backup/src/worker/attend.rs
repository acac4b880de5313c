//! The life of one worker.

use std::time::Duration;

use chores_common::engine::{Engine, EngineError, EngineErrorKind};
use chores_common::exit::ExitCode;
use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::sleep;

use super::WorkerError;
use super::output::Output;
use super::spec::Prepared;

/// How long a worker may take to end after it was asked to, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// How long followed output may come after the worker's end, before it is read again instead.
const FOLLOW_LINGER: Duration = Duration::from_secs(3);

/// Most output that is read again, in bytes.
const REPEATED_BYTES_MAX: usize = 32 << 20;

/// An engine that is restarted is back within half a minute, with the worker where it is told to.
const WAIT_RETRY: Retry =
    Retry { attempts: 10, base: Duration::from_millis(500), cap: Duration::from_secs(5) };

/// Status of a process that was killed: 128 and the signal (SIGKILL).
const KILLED: i64 = 128 + 9;

/// Creates the worker, runs it to its end and removes it. Returns its exit status.
pub(super) async fn run(
    engine: &Engine,
    prepared: &Prepared,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    let id = engine.create_container(&prepared.spec).await?;
    let outcome = attend(engine, &id, prepared, shutdown, on_line).await;
    if let Err(error) = engine.remove(&id, true).await {
        tracing::warn!("the worker {id} is left behind: {error}");
    }
    judged(outcome?)
}

/// The status, where it is one of ours.
fn judged(status: i64) -> Result<i64, WorkerError> {
    let own = [
        ExitCode::Done,
        ExitCode::Failed,
        ExitCode::Usage,
        ExitCode::Warnings,
        ExitCode::Interrupted,
    ];
    if own.into_iter().any(|code| i64::from(code as u8) == status) {
        return Ok(status);
    }
    let hint = if status == KILLED { ": it was killed, or ran out of memory" } else { "" };
    Err(WorkerError::Died { status, hint })
}

async fn attend(
    engine: &Engine,
    id: &str,
    prepared: &Prepared,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    if !prepared.secrets.is_empty() {
        engine.put_files(id, &prepared.secrets_directory, &prepared.secrets).await?;
    }
    if shutdown.is_requested() {
        return Ok(i64::from(ExitCode::Interrupted as u8));
    }
    engine.start(id).await?;
    let mut output = Output::new(on_line, std::io::stderr());
    let (ended, seen) = watch::channel(false);
    let waiting = async {
        let status = wait(engine, id).await;
        ended.send_replace(true);
        status
    };
    let following = follow(engine, id, &mut output, seen.clone());
    let stopping = stop_when_asked(engine, id, shutdown, seen);
    let (status, (), ()) = tokio::join!(waiting, following, stopping);
    complete(engine, id, &mut output).await;
    output.finish();
    Ok(status?)
}

/// The worker's exit status, also past a restart of the engine.
async fn wait(engine: &Engine, id: &str) -> Result<i64, EngineError> {
    let mut attempt = 1;
    loop {
        let error = match engine.wait(id).await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        let is_passing = matches!(
            error.kind(),
            EngineErrorKind::Unreachable | EngineErrorKind::Corrupt | EngineErrorKind::Timeout
        );
        let random = getrandom::u64().unwrap_or_default();
        match WAIT_RETRY.pause_after(attempt, random) {
            Some(pause) if is_passing => sleep(pause).await,
            _ => return Err(error),
        }
        attempt += 1;
    }
}

/// Delivers output while it is written. Where that breaks off, [`complete`] has the rest.
async fn follow<E: std::io::Write>(
    engine: &Engine,
    id: &str,
    output: &mut Output<'_, E>,
    mut seen: watch::Receiver<bool>,
) {
    let mut stream = match engine.follow_logs(id) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!("{error}"),
    };
    let lingered = async {
        has_ended(&mut seen).await;
        sleep(FOLLOW_LINGER).await;
    };
    tokio::pin!(lingered);
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = &mut lingered => return,
        };
        match next {
            Some(Ok(frame)) => output.take(&frame),
            Some(Err(error)) => return tracing::debug!("{error}"),
            None => return,
        }
    }
}

/// Delivers what following has missed.
async fn complete<E: std::io::Write>(engine: &Engine, id: &str, output: &mut Output<'_, E>) {
    match engine.logs_after_exit(id, REPEATED_BYTES_MAX).await {
        Ok(frames) => {
            output.rewind();
            frames.iter().for_each(|frame| output.take(frame));
        }
        Err(error) => tracing::warn!("the end of the worker's output may be missing: {error}"),
    }
}

async fn stop_when_asked(
    engine: &Engine,
    id: &str,
    shutdown: &Shutdown,
    mut seen: watch::Receiver<bool>,
) {
    tokio::select! {
        () = shutdown.wait() => {}
        () = has_ended(&mut seen) => return,
    }
    tracing::info!("asking the worker to stop");
    if let Err(error) = engine.stop(id, STOP_GRACE).await {
        tracing::warn!("{error}");
    }
}

async fn has_ended(seen: &mut watch::Receiver<bool>) {
    // The sender outlives every receiver; its loss would mean the end as well.
    if seen.wait_for(|ended| *ended).await.is_err() {
        tracing::trace!("nobody waits for the worker any more");
    }
}
