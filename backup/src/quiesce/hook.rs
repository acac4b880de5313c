//! One command in a container.

use std::time::Duration;

use chores_common::engine::{Engine, EngineError, ExecSpec};
use tokio::time::{sleep, timeout};

/// How long a command may take.
const HOOK_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// The last part of a command's output that is shown when it fails, in bytes.
const OUTPUT_BYTES_MAX: usize = 300;

/// How often, and how many times at the most, the engine is asked how a command ended whose output has.
const STATE_POLL: Duration = Duration::from_millis(50);
const STATE_POLLS_MAX: u32 = 200;

/// Runs `sh -c COMMAND` with nothing to read, to its end. The error is the rest of a sentence that begins with the
/// command: `ended with status 1: …`.
pub(super) async fn run(engine: &Engine, container: &str, command: &str) -> Result<(), String> {
    match timeout(HOOK_TIME_MAX, to_the_end(engine, container, command)).await {
        Ok(Ok((0, _))) => Ok(()),
        Ok(Ok((status, output))) if output.is_empty() => Err(format!("ended with status {status}")),
        Ok(Ok((status, output))) => Err(format!("ended with status {status}: {output}")),
        Ok(Err(error)) => Err(format!("could not run: {error}")),
        Err(_) => Err(format!(
            "still runs after {} min, and is not waited for",
            HOOK_TIME_MAX.as_secs() / 60
        )),
    }
}

async fn to_the_end(
    engine: &Engine,
    container: &str,
    command: &str,
) -> Result<(i64, String), EngineError> {
    let words = ["sh", "-c", command].map(str::to_owned).to_vec();
    let mut exec = engine.exec(container, &ExecSpec { words, ..ExecSpec::default() }).await?;
    if let Err(error) = exec.input.close().await {
        // It may have ended already.
        tracing::debug!("the input of a command: {error}");
    }
    let mut tail = Vec::new();
    while let Some(piece) = exec.output.next().await {
        tail.extend_from_slice(&piece?.1);
        let surplus = tail.len().saturating_sub(OUTPUT_BYTES_MAX);
        tail.drain(..surplus);
    }
    let mut polls = 0;
    loop {
        let state = engine.exec_state(&exec.id).await?;
        if let (false, Some(status)) = (state.running, state.exit_code) {
            return Ok((status, String::from_utf8_lossy(&tail).trim().to_owned()));
        }
        polls += 1;
        if polls == STATE_POLLS_MAX {
            return Ok((-1, "the engine does not say how it ended".to_owned()));
        }
        sleep(STATE_POLL).await;
    }
}
