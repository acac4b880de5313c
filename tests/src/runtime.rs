//! One Tokio runtime for the whole test process, used from plain threads.
//!
//! Tests are ordinary functions; what must speak HTTP runs here. [`wait`] also works inside `drop` and
//! while a panic unwinds, which `Runtime::block_on` on a runtime thread would not.

use std::future::Future;
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use tokio::runtime::Runtime;

/// The longest a single call to the engine or a store may take (seconds): building an image from a
/// 300 MB archive on a slow disk is the slowest of them.
const CALL_SECONDS_MAX: u64 = 300;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("harness")
        .enable_all()
        .build()
        .expect("a runtime for the harness")
});

/// Runs a future on the harness' runtime without waiting for it.
pub fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    RUNTIME.spawn(future)
}

/// Runs a future on the harness' runtime and waits for its result on this thread.
///
/// # Panics
/// When the future panics or takes longer than five minutes.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let result = future.await;
        // The receiver is gone only after its own deadline, which it reports itself.
        drop(sender.send(result));
    });
    receiver
        .recv_timeout(Duration::from_secs(CALL_SECONDS_MAX))
        .expect("a call of the harness ended neither with a result nor in time")
}
