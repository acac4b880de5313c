//! Who may begin to speak: limits of unauthenticated connections and penalties of their sources, as
//! MaxStartups, PerSourceMaxStartups and PerSourcePenalties of sshd_config(5).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::wire::net::Limits;

/// Penalties below this are remembered, not enforced.
const PENALTY_MIN: Duration = Duration::from_secs(15);
/// No source is refused for longer.
const PENALTY_MAX: Duration = Duration::from_secs(600);
/// Sources that are remembered; the one that would be forgiven first is forgotten first.
const SOURCES_MAX: usize = 65_536;

/// An IPv4 address or an IPv6 network of 64 bits: what one client can have for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// One address.
    V4(Ipv4Addr),
    /// The network of 64 bits.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// How a connection ended that never authenticated, or should not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offence {
    /// It tried to authenticate, in vain.
    Failed,
    /// It did not even try.
    NoAttempt,
    /// It took too long.
    Grace,
    /// It made our code fail.
    Crash,
}

impl Offence {
    fn penalty(self) -> Duration {
        Duration::from_secs(match self {
            Self::Failed => 5,
            Self::NoAttempt => 1,
            Self::Grace => 10,
            Self::Crash => 90,
        })
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Its source is being punished.
    #[error("its source is refused for a while after failed attempts")]
    Penalty,
    /// Its source has as many unauthenticated connections as it may have.
    #[error("its source has too many unauthenticated connections")]
    Source,
    /// There are too many unauthenticated connections.
    #[error("there are too many unauthenticated connections")]
    Startups,
    /// There are too many connections of any kind.
    #[error("there are too many connections")]
    Connections,
}

impl Refused {
    /// What its client is told in place of an identification string (RFC 4253, 4.2), as by OpenSSH.
    pub(super) fn to_client(self) -> &'static [u8] {
        match self {
            Self::Penalty => b"Not allowed at this time\r\n",
            Self::Source | Self::Startups | Self::Connections => b"Exceeded MaxStartups\r\n",
        }
    }
}

/// The state that decides.
#[derive(Debug)]
pub(super) struct Admission {
    begin: u32,
    percent: u32,
    full: u32,
    per_source: u32,
    sources_max: usize,
    startups: u32,
    by_source: HashMap<Source, u32>,
    penalties: HashMap<Source, Penalty>,
    by_end: BTreeSet<(Instant, Source)>,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    end: Instant,
    enforced: bool,
}

impl Admission {
    /// With nobody waiting.
    pub(super) fn new(limits: &Limits) -> Self {
        let (begin, percent, full) = limits.startups;
        Self {
            begin,
            percent,
            full,
            per_source: limits.startups_per_source,
            sources_max: SOURCES_MAX,
            startups: 0,
            by_source: HashMap::new(),
            penalties: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// Lets a connection in, or not. `dice` is a number below 100 by chance. Whoever is let in must
    /// [`leave`](Self::leave).
    pub(super) fn enter(&mut self, now: Instant, source: Source, dice: u32) -> Result<(), Refused> {
        self.forgive(now);
        if self.penalties.get(&source).is_some_and(|penalty| penalty.enforced) {
            return Err(Refused::Penalty);
        }
        let here = self.by_source.get(&source).copied().unwrap_or(0);
        if here >= self.per_source {
            return Err(Refused::Source);
        }
        if dice < self.odds() {
            return Err(Refused::Startups);
        }
        self.startups += 1;
        self.by_source.insert(source, here + 1);
        Ok(())
    }

    /// A connection has authenticated, or is gone.
    pub(super) fn leave(&mut self, source: Source) {
        self.startups = self.startups.saturating_sub(1);
        match self.by_source.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_source.remove(&source)),
        }
    }

    /// Punishes a source. Penalties add up.
    pub(super) fn punish(&mut self, now: Instant, source: Source, offence: Offence) {
        self.forgive(now);
        let known = self.penalties.remove(&source);
        if let Some(penalty) = known {
            self.by_end.remove(&(penalty.end, source));
        }
        while self.penalties.len() >= self.sources_max {
            let Some((_, first)) = self.by_end.pop_first() else { break };
            self.penalties.remove(&first);
        }
        let base = known.map_or(now, |penalty| penalty.end);
        let end = (base + offence.penalty()).min(now + PENALTY_MAX);
        let enforced =
            known.is_some_and(|penalty| penalty.enforced) || end.duration_since(now) >= PENALTY_MIN;
        self.penalties.insert(source, Penalty { end, enforced });
        self.by_end.insert((end, source));
    }

    /// Percent of new connections that are refused: none below `begin`, then from `percent` up to all at
    /// `full`.
    fn odds(&self) -> u32 {
        if self.startups >= self.full {
            return 100;
        }
        if self.startups < self.begin {
            return 0;
        }
        let span = self.full.saturating_sub(self.begin).max(1);
        let rise = u64::from(100_u32.saturating_sub(self.percent))
            * u64::from(self.startups - self.begin)
            / u64::from(span);
        self.percent.saturating_add(u32::try_from(rise).unwrap_or(100)).min(100)
    }

    fn forgive(&mut self, now: Instant) {
        while let Some((end, source)) = self.by_end.first().copied()
            && end <= now
        {
            self.by_end.pop_first();
            self.penalties.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests;
