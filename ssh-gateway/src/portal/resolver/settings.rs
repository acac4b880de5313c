//! What the files of the container say about names: hosts(5) and resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::message::Name;

/// Port of name servers.
const PORT: u16 = 53;
/// Servers that are asked, as in resolv.conf(5).
const SERVERS_MAX: usize = 3;
/// Domains that are searched.
const SEARCH_MAX: usize = 8;
/// Dots from which on a name is first taken as it is.
const DOTS_MAX: usize = 15;
/// Times that every server is asked.
const ATTEMPTS_MAX: usize = 5;
/// Seconds that one server is waited for, whatever the file says: a dial has a deadline of its own.
const TIMEOUT_SECONDS_MAX: u64 = 5;

/// resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// In the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that names are completed with.
    pub(super) search: Vec<String>,
    /// A name with as many dots is first taken as it is.
    pub(super) dots: usize,
    /// For each server and attempt.
    pub(super) timeout: Duration,
    /// Times that every server is asked.
    pub(super) attempts: usize,
}

impl Settings {
    /// From the content of the file; what is not understood is passed over, as everyone does.
    pub(super) fn of(content: &[u8]) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(TIMEOUT_SECONDS_MAX),
            attempts: 2,
        };
        for line in lines(content) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    settings.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                Some("domain") => settings.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => {
                    settings.search = words.take(SEARCH_MAX).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|option| settings.set(option)),
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        settings.servers.truncate(SERVERS_MAX);
        settings
    }

    fn set(&mut self, option: &str) {
        let Some((name, Ok(value))) =
            option.split_once(':').map(|(name, value)| (name, value.parse::<u32>()))
        else {
            return;
        };
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            "ndots" => self.dots = count.min(DOTS_MAX),
            "attempts" => self.attempts = count.clamp(1, ATTEMPTS_MAX),
            "timeout" => {
                self.timeout = Duration::from_secs(u64::from(value).clamp(1, TIMEOUT_SECONDS_MAX));
            }
            _ => {}
        }
    }

    /// The names that are asked for one after the other when `host` is wanted, which is `name`.
    pub(super) fn candidates(&self, host: &str, name: &Name) -> Vec<Name> {
        if host.ends_with('.') {
            return vec![name.clone()];
        }
        let mut names: Vec<_> = self
            .search
            .iter()
            .filter(|domain| domain.as_str() != ".")
            .filter_map(|domain| Name::of(&format!("{host}.{domain}")))
            .collect();
        let as_it_is = if host.matches('.').count() >= self.dots { 0 } else { names.len() };
        names.insert(as_it_is, name.clone());
        names
    }
}

/// The addresses of `host` in a table of hosts(5).
pub(super) fn listed(content: &[u8], host: &str, addresses_max: usize) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut addresses = Vec::new();
    for line in lines(content) {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if addresses.len() < addresses_max
            && !addresses.contains(&address)
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Lines that are text, without their comments.
fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok())
        .filter_map(|line| line.split(['#', ';']).next())
}

#[cfg(test)]
mod tests;
