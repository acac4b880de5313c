//! Threads that help. One that cannot be started, as below a limit of processes, is one that does not
//! help: the thread that asks works too, so the work gets done without any.

use std::thread::{self, Builder, Scope};

#[cfg(test)]
mod tests;

/// Starts up to `count` threads that do `work`, and says how many there are.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    count: usize,
    work: impl Fn() + Clone + Send + 'scope,
) -> usize {
    for started in 0..count {
        if let Err(error) = Builder::new().name(name.to_owned()).spawn_scoped(scope, work.clone()) {
            tracing::info!("going on with {started} more threads instead of {count}: {error}");
            return started;
        }
    }
    count
}

/// Does `work` on this thread and on up to `helpers` more, until it has returned on each.
pub(crate) fn on_each(name: &str, helpers: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        start(scope, name, helpers, &work);
        work();
    });
}
