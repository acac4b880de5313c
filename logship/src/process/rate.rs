//! A source that says too much: what goes beyond its rate is dropped, counted, and told of.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::record::{Gap, GapReason, Stream};
use crate::time::SECOND;

#[cfg(test)]
mod tests;

/// Once the rate is exceeded, everything is dropped for so long, in nanoseconds: one hole instead of many.
pub const RATE_WINDOW: i64 = SECOND;

/// Records a source may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Records …
    pub records: NonZeroU32,
    /// … in this time, in nanoseconds.
    pub per: i64,
    /// Records that may come at once.
    pub burst: NonZeroU32,
    /// Beyond the rate, one of so many passes all the same, as a sample.
    pub sample: Option<NonZeroU32>,
}

/// A rate that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate: give for example 1000/s, 500/m, or 1000/s,burst=5000,sample=100")]
pub struct RateError(String);

impl Rate {
    /// Reads `1000/s`, `500/m`, `1000/s,burst=5000`, `1000/s,sample=100`. Without a burst it is what comes in one
    /// window, at least.
    pub fn parse(text: &str) -> Result<Self, RateError> {
        let fail = || RateError(text.to_owned());
        let mut parts = text.split(',').map(str::trim);
        let (records, unit) = parts.next().and_then(|it| it.split_once('/')).ok_or_else(fail)?;
        let records: NonZeroU32 = records.trim().parse().map_err(|_| fail())?;
        let per = match unit.trim() {
            "s" => SECOND,
            "m" | "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return Err(fail()),
        };
        let mut rate = Self { records, per, burst: records, sample: None };
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(fail)?;
            let value: NonZeroU32 = value.trim().parse().map_err(|_| fail())?;
            match name.trim() {
                "burst" => rate.burst = value,
                "sample" => rate.sample = Some(value),
                _ => return Err(fail()),
            }
        }
        Ok(rate)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per / SECOND {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.records)?;
        if self.burst != self.records {
            write!(f, ",burst={}", self.burst)?;
        }
        self.sample.map_or(Ok(()), |sample| write!(f, ",sample={sample}"))
    }
}

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Of which stream the first of it was.
    pub stream: Stream,
    /// Its time.
    pub first_ts: i64,
    /// Time of the last record before it.
    pub from: Option<i64>,
    /// Records.
    pub lines: u64,
    /// Bytes of them, line ends not counted.
    pub bytes: u64,
    /// Where they were in the source.
    pub marks: Range<u64>,
}

impl Dropped {
    /// As it is told of; `to` is the time of the next record, when there is one.
    #[must_use]
    pub fn gap(&self, to: Option<i64>) -> Gap {
        Gap {
            from_byte: None,
            reason: GapReason::RateLimited,
            from: self.from,
            to,
            bytes: Some(self.bytes),
            lines: Some(self.lines),
            exact: true,
        }
    }
}

/// Counts the records of one source, by their own times: the same records are dropped however fast they are
/// read.
#[derive(Debug)]
pub struct Limiter {
    rate: Option<Rate>,
    /// What may come now, in records times `rate.per`.
    credit: i128,
    /// Time of the last record that was looked at.
    last_ts: Option<i64>,
    last_passed: Option<i64>,
    /// Everything before this time is dropped.
    closed_until: Option<i64>,
    gap: Option<Dropped>,
    since: Option<i64>,
    /// Records beyond the rate since the last sample of them.
    unsampled: u32,
}

impl Limiter {
    /// With a full burst.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        let credit = rate.map_or(0, |rate| full(&rate));
        Self {
            rate,
            credit,
            last_ts: None,
            last_passed: None,
            closed_until: None,
            gap: None,
            since: None,
            unsampled: 0,
        }
    }

    /// Whether a record may pass; it is counted as dropped if not.
    pub fn passes(&mut self, ts: i64, stream: Stream, bytes: usize, marks: &Range<u64>) -> bool {
        let Some(rate) = self.rate else { return true };
        // The clock was set back: it must not count for nothing until it has caught up.
        if self.last_ts.is_some_and(|last| ts < last.saturating_sub(RATE_WINDOW)) {
            self.last_ts = Some(ts);
            self.closed_until = None;
        }
        let elapsed = self.last_ts.map_or(0, |last| ts.saturating_sub(last).max(0));
        self.last_ts = Some(self.last_ts.map_or(ts, |last| last.max(ts)));
        let earned = i128::from(elapsed) * i128::from(rate.records.get());
        self.credit = (self.credit + earned).min(full(&rate));
        let price = i128::from(rate.per);
        let is_closed = self.closed_until.is_some_and(|until| ts < until);
        if !is_closed && self.credit >= price {
            self.credit -= price;
            self.closed_until = None;
            return true;
        }
        if !is_closed {
            self.closed_until = Some(ts.saturating_add(RATE_WINDOW));
        }
        self.unsampled = self.unsampled.saturating_add(1);
        if rate.sample.is_some_and(|sample| self.unsampled >= sample.get()) {
            self.unsampled = 0;
            return true;
        }
        let gap = self.gap.get_or_insert_with(|| Dropped {
            stream,
            first_ts: ts,
            from: self.last_passed,
            lines: 0,
            bytes: 0,
            marks: marks.clone(),
        });
        gap.lines += 1;
        gap.bytes += bytes as u64;
        gap.marks = gap.marks.start.min(marks.start)..gap.marks.end.max(marks.end);
        false
    }

    /// Remembers the time of a record that passed.
    pub fn note_passed(&mut self, ts: i64) {
        self.last_passed = Some(ts);
    }

    /// What is being dropped now.
    #[must_use]
    pub fn gap(&self) -> Option<&Dropped> {
        self.gap.as_ref()
    }

    /// The same, to be told of; what is dropped next is counted anew.
    pub fn end_gap(&mut self) -> Option<Dropped> {
        self.since = None;
        self.gap.take()
    }

    /// The same, when it was not told of for a window.
    pub fn expire(&mut self, now: i64) -> Option<Dropped> {
        self.gap.as_ref()?;
        super::is_over(&mut self.since, now, RATE_WINDOW).then(|| self.end_gap()).flatten()
    }

    /// When [`expire`](Self::expire) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        self.gap.as_ref()?;
        Some(self.since.map_or(i64::MIN, |since| since + RATE_WINDOW))
    }
}

fn full(rate: &Rate) -> i128 {
    i128::from(rate.burst.get()) * i128::from(rate.per)
}
