//! The life of one worker.

use std::time::{Duration, Instant};

use chores_common::engine::{ContainerInput, Engine, EngineError, EngineErrorKind};
use chores_common::exit::ExitCode;
use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::output::Output;
use super::spec::Prepared;
use super::{Stillness, WorkerError};
use crate::quiesce::{FromParent, ToParent};

/// How long a worker may take to end after it was asked to, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// How long followed output may come after the worker's end, before it is read again instead.
const FOLLOW_LINGER: Duration = Duration::from_secs(3);

/// How long output has to be followed without a break for the breaks before to count no more.
const FOLLOW_STEADY: Duration = Duration::from_secs(10);

/// Most output that is read again, in bytes.
const REPEATED_BYTES_MAX: usize = 32 << 20;

/// Steps of a worker that wait for their answer: it goes on only with one.
const STEPS_MAX: usize = 2;

/// An engine that is restarted is back within half a minute, with the worker where it is told to.
const WAIT_RETRY: Retry =
    Retry { attempts: 10, base: Duration::from_millis(500), cap: Duration::from_secs(5) };

/// Status of a process that was killed: 128 and the signal (SIGKILL).
const KILLED: i64 = 128 + 9;

/// Creates the worker, runs it to its end and removes it. Returns its exit status.
pub(super) async fn run(
    engine: &Engine,
    prepared: &Prepared,
    still: Option<Stillness<'_>>,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    let id = engine.create_container(&prepared.spec).await?;
    let outcome = attend(engine, &id, prepared, still, shutdown, on_line).await;
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
    still: Option<Stillness<'_>>,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    if !prepared.secrets.is_empty() {
        engine.put_files(id, &prepared.secrets_directory, &prepared.secrets).await?;
    }
    if shutdown.is_requested() {
        return Ok(i64::from(ExitCode::Interrupted as u8));
    }
    let input = match still {
        Some(_) => Some(engine.attach_input(id).await?),
        None => None,
    };
    engine.start(id).await?;
    let (heard, steps) = mpsc::channel(STEPS_MAX);
    let mut sort = |line: &str| match ToParent::from_line(line) {
        // More of them than a worker has to say are none of a worker's.
        Some(step) if still.is_some() => drop(heard.try_send(step)),
        _ => on_line(line),
    };
    let mut output = Output::new(&mut sort, std::io::stderr());
    let (ended, seen) = watch::channel(false);
    let waiting = async {
        let status = wait(engine, id).await;
        ended.send_replace(true);
        status
    };
    let following = follow(engine, id, &mut output, seen.clone());
    let stopping = stop_when_asked(engine, id, shutdown, seen);
    let followed = async {
        match following.await {
            // The worker waits for answers to what nobody can hear: its sources must not hold still for that.
            Err(error) if still.is_some() => Err(error),
            Err(error) => {
                tracing::debug!("{error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    };
    let worked = async {
        let (waiting, stopping) = (async { Ok(waiting.await) }, async {
            stopping.await;
            Ok(())
        });
        tokio::try_join!(waiting, followed, stopping).map(|(status, (), ())| status)
    };
    let status = tokio::select! {
        status = worked => status?,
        error = converse(still, input, steps) => return Err(error),
    };
    complete(engine, id, &mut output).await;
    output.finish();
    Ok(status?)
}

/// Answers what the worker says about its sources. Only comes to an end when they cannot be made to hold still.
async fn converse(
    still: Option<Stillness<'_>>,
    mut input: Option<ContainerInput>,
    mut steps: mpsc::Receiver<ToParent>,
) -> WorkerError {
    while let (Some(Stillness { keeper, is_last }), Some(input), Some(step)) =
        (still, &mut input, steps.recv().await)
    {
        let answer = match step {
            ToParent::Ready => match keeper.hold().await {
                Ok(()) => FromParent::Held,
                Err(error) => return error.into(),
            },
            ToParent::Read if is_last => FromParent::Released { warnings: keeper.release().await },
            ToParent::Read => FromParent::Released { warnings: keeper.check().await },
        };
        if let Err(error) = input.write(answer.to_line().as_bytes()).await {
            // It has ended, and its status says why.
            tracing::debug!("{error}");
        }
    }
    std::future::pending().await
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

/// Delivers output while it is written. Where that breaks off while the worker runs, it is begun again, and the error is the
/// last one when that is in vain. What is written at the very end, [`complete`] has.
async fn follow<E: std::io::Write>(
    engine: &Engine,
    id: &str,
    output: &mut Output<'_, E>,
    mut seen: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let mut attempt = 1;
    loop {
        let begun = Instant::now();
        let error = follow_once(engine, id, output, &mut seen).await.err();
        if *seen.borrow() {
            return Ok(());
        }
        if begun.elapsed() >= FOLLOW_STEADY {
            attempt = 1;
        }
        let random = getrandom::u64().unwrap_or_default();
        let Some(pause) = WAIT_RETRY.pause_after(attempt, random) else {
            let reason = "it breaks off again and again while the container runs";
            return Err(error.unwrap_or_else(|| EngineError::unreadable_log(id, reason)));
        };
        attempt += 1;
        tokio::select! {
            () = sleep(pause) => {}
            () = has_ended(&mut seen) => return Ok(()),
        }
        output.rewind();
    }
}

/// Delivers output up to its end, or to where it breaks off.
async fn follow_once<E: std::io::Write>(
    engine: &Engine,
    id: &str,
    output: &mut Output<'_, E>,
    seen: &mut watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let mut stream = engine.follow_logs(id)?;
    let lingered = async {
        has_ended(seen).await;
        sleep(FOLLOW_LINGER).await;
    };
    tokio::pin!(lingered);
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = &mut lingered => return Ok(()),
        };
        match next {
            Some(Ok(frame)) => output.take(&frame),
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
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
