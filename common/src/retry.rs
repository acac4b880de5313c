//! How long to wait before trying again.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// A bounded number of attempts with growing, jittered pauses between them.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The longest pause after the first attempt; doubles with each further one.
    pub base: Duration,
    /// The longest pause of all.
    pub cap: Duration,
}

impl Retry {
    /// The pause after the failed attempt number `attempt` (counted from 1), or `None` when there
    /// is no attempt left. `random` is any number: it places the pause evenly in the upper half of
    /// its range, so that clients that failed together do not come back together.
    pub fn pause_after(&self, attempt: u32, random: u64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = longest / 2;
        let half_nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        Some(half + Duration::from_nanos(random % half_nanoseconds.saturating_add(1)))
    }
}
