//! Where a link leads, and what is known about what is there.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use chores_common::secret::Secret;

use crate::database::{Evidence, port_of};
use crate::snapshot::DumpKind;

#[cfg(test)]
mod tests;

/// How long a port may take to answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Variables of the other side that scripts read. None that names a file: it would be read here, and its content
/// be sent there.
const READ: [&str; 18] = [
    "MARIADB_ROOT_PASSWORD",
    "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD",
    "MARIADB_USER",
    "MARIADB_PASSWORD",
    "MYSQL_ROOT_PASSWORD",
    "MYSQL_ALLOW_EMPTY_PASSWORD",
    "MYSQL_USER",
    "MYSQL_PASSWORD",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRESQL_USERNAME",
    "POSTGRESQL_PASSWORD",
    "REDIS_PASSWORD",
    "VALKEY_PASSWORD",
    "MONGO_INITDB_ROOT_USERNAME",
    "MONGO_INITDB_ROOT_PASSWORD",
    "MONGODB_ROOT_USER",
    "MONGODB_ROOT_PASSWORD",
];

/// The other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name or address.
    pub host: String,
    /// Ports that the link names.
    pub ports: Vec<u16>,
    /// Variables of the other side that scripts may read, where our own environment has no such variable.
    pub variables: Vec<(String, Secret)>,
    /// Names of all variables that tell the kind.
    names: Vec<String>,
}

impl Link {
    /// From the environment: `docker run --link NAME:ALIAS` sets `ALIAS_PORT_3306_TCP_ADDR` and the like, and the
    /// other side's variables as `ALIAS_ENV_…`. Without them the alias is a name on a shared network.
    #[must_use]
    pub fn new(alias: &str, environment: &BTreeMap<String, String>) -> Self {
        let upper = alias.to_uppercase().replace('-', "_");
        let ports = format!("{upper}_PORT_");
        let mut found: Vec<(u16, &str)> = Vec::new();
        for (name, value) in environment {
            let port = name.strip_prefix(&ports).and_then(|rest| rest.strip_suffix("_TCP_ADDR"));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                found.push((port, value));
            }
        }
        found.sort_unstable();
        let host = found.first().map_or(alias, |(_, address)| address);
        let theirs = format!("{upper}_ENV_");
        let theirs = environment
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(&theirs)?, value)));
        let mut names: Vec<String> = theirs.clone().map(|(name, _)| name.to_owned()).collect();
        names.extend(environment.keys().cloned());
        let is_ours = |name: &str| {
            environment.contains_key(name) || environment.contains_key(&format!("{name}_FILE"))
        };
        let variables = theirs
            .filter(|(name, _)| READ.contains(name) && !is_ours(name))
            .map(|(name, value)| (name.to_owned(), Secret::new(value.clone())));
        Self {
            host: host.to_owned(),
            ports: found.iter().map(|(port, _)| *port).collect(),
            variables: variables.collect(),
            names,
        }
    }

    /// What tells the kind.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence { variables: self.names.clone(), ports: self.ports.clone(), ..Evidence::default() }
    }

    /// What a script finds in its environment for a server of this kind.
    #[must_use]
    pub fn environment(&self, kind: DumpKind) -> Vec<(String, Secret)> {
        let usual = port_of(kind);
        let port = usual.filter(|port| self.ports.contains(port) || self.ports.is_empty());
        let port = port.or_else(|| self.ports.first().copied()).or(usual);
        let mut variables = self.variables.clone();
        variables.push(("dump_host".to_owned(), Secret::new(self.host.clone())));
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        variables.push(("dump_port".to_owned(), Secret::new(port)));
        variables
    }

    /// The ports of databases that answer.
    #[must_use]
    pub fn open_ports(&self) -> Vec<u16> {
        let kinds = [DumpKind::Mysql, DumpKind::Postgres, DumpKind::Redis, DumpKind::Mongo];
        let is_open = |port: &u16| {
            let addresses = (self.host.as_str(), *port).to_socket_addrs();
            addresses.is_ok_and(|mut addresses| {
                addresses
                    .any(|address| TcpStream::connect_timeout(&address, CONNECT_TIME_MAX).is_ok())
            })
        };
        let ports: Vec<u16> = kinds.into_iter().filter_map(port_of).collect();
        // All at once: one that answers nothing is waited for only once.
        thread::scope(|scope| {
            let asked: Vec<_> =
                ports.iter().map(|port| (*port, scope.spawn(|| is_open(port)))).collect();
            let open = asked.into_iter().filter_map(|(port, answer)| {
                answer.join().is_ok_and(|is_open| is_open).then_some(port)
            });
            open.collect()
        })
    }
}
