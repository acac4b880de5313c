//! What a client may do: pure answers from an authorized key, a login name, an address and a time. What no answer
//! here allows is not allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use chores_common::engine::ListedContainer;
use jiff::Timestamp;

use crate::authorized_keys::{AuthorizedKey, AuthorizedKeys, INTERNAL_SFTP};
use crate::login::{self, UserName, shown};
use crate::wire::net::Place;
use crate::wire::{Opaque, Program};

#[cfg(test)]
mod tests;

/// Variables that one session may be given by its client (RFC 4254, 6.4).
pub const ENVIRONMENT_COUNT_MAX: usize = 32;

/// Bytes of all variables together that one session may be given by its client.
pub const ENVIRONMENT_BYTES_MAX: usize = 8 * 1024;

/// Patterns of variables that may be configured.
pub const ENVIRONMENT_PATTERNS_MAX: usize = 64;

/// Why something is not allowed. One sentence each, for the client and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The key is in no line.
    #[error("the key is not authorized")]
    UnknownKey,
    /// It is, but not from there.
    #[error("the key is not authorized from this address")]
    Address,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// Not this container.
    #[error("the key does not allow this container")]
    Container,
    /// Not as this user.
    #[error("the key does not allow the user {}", shown(.0))]
    User(String),
    /// No forwards.
    #[error("the key does not allow forwards")]
    Forwarding,
    /// Not to there.
    #[error("the key does not allow forwards to {}", shown(.0))]
    Destination(String),
    /// Not at that place.
    #[error("the key does not allow to listen at {}", shown(.0))]
    Listen(String),
    /// Something that no forward may reach.
    #[error("forwards to {0} are not allowed: {1}")]
    Reserved(IpAddr, &'static str),
    /// Something that is no address.
    #[error("{} is no place for a forward", shown(.0))]
    NoPlace(String),
}

/// Who a client is: it has proved that it holds a key that is authorized from where it comes. Made by [`admit`] only.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The lines that let it in, in their order; never empty.
    grants: Vec<Arc<AuthorizedKey>>,
}

/// Lets a key in from `peer` at `now`, by the lines that allow it. The caller has proof that the client holds it, or
/// tells nobody what comes of it.
pub fn admit(
    keys: &AuthorizedKeys,
    blob: &[u8],
    peer: IpAddr,
    now: Timestamp,
) -> Result<Identity, Denial> {
    let mut grants = Vec::new();
    let mut denial = Denial::UnknownKey;
    for key in keys.of_blob(blob) {
        if key.options.from.as_ref().is_some_and(|from| !from.contains(peer)) {
            denial = Denial::Address;
        } else if is_expired(key, now) {
            denial = Denial::Expired;
        } else {
            grants.push(Arc::clone(key));
        }
    }
    if grants.is_empty() { Err(denial) } else { Ok(Identity { grants }) }
}

fn is_expired(key: &AuthorizedKey, now: Timestamp) -> bool {
    key.options.expiry.is_some_and(|expiry| now >= expiry)
}

impl Identity {
    /// `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        self.grants.first().map_or("", |key| &key.fingerprint)
    }

    /// What the file says about the key.
    #[must_use]
    pub fn comment(&self) -> &str {
        self.grants.first().map_or("", |key| &key.comment)
    }

    /// Whether it may enter a container at all: the others do not exist for it.
    #[must_use]
    pub fn may_enter(&self, container: &ListedContainer) -> bool {
        login::is_enabled(container) && self.grants.iter().any(|key| allows(key, &container.name))
    }

    /// Whether it may go on to a host behind the gateway, by the first line that allows it. What it may do there is
    /// asked when it comes.
    pub fn may_go_on(&self, to: &Place, now: Timestamp) -> Result<(), Denial> {
        let mut denial = Denial::Forwarding;
        for key in &self.grants {
            let access = Access { key: Arc::clone(key), user: None };
            match access.check(now).and_then(|()| access.connect(to)) {
                Ok(()) => return Ok(()),
                Err(reason) => denial = reason,
            }
        }
        Err(denial)
    }

    /// What it may do in the container of this name, as this user, by the first line that allows both.
    pub fn access(
        &self,
        container: &ListedContainer,
        user: Option<&UserName>,
        now: Timestamp,
    ) -> Result<Access, Denial> {
        let mut denial = Denial::Container;
        if !login::is_enabled(container) {
            return Err(denial);
        }
        for key in self.grants.iter().filter(|key| allows(key, &container.name)) {
            let users = &key.options.users;
            let chosen = match user {
                None => users.first(),
                Some(user) if users.is_empty() || users.contains(user) => Some(user),
                Some(user) => {
                    denial = Denial::User(user.to_string());
                    continue;
                }
            };
            if is_expired(key, now) {
                denial = Denial::Expired;
                continue;
            }
            return Ok(Access { key: Arc::clone(key), user: chosen.cloned() });
        }
        Err(denial)
    }
}

fn allows(key: &AuthorizedKey, container: &str) -> bool {
    key.options.containers.as_ref().is_none_or(|list| list.matches(container))
}

/// What a client may do in one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    key: Arc<AuthorizedKey>,
    user: Option<UserName>,
}

/// What is run in place of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// What is run.
    pub program: Program,
    /// What the client asked for, if something else is run: `SSH_ORIGINAL_COMMAND`.
    pub original: Option<Vec<u8>>,
}

impl Access {
    /// The line that allows it.
    #[must_use]
    pub fn key(&self) -> &AuthorizedKey {
        &self.key
    }

    /// As whom: `NAME`, `UID` or `UID:GID`; the container's own user when `None`.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(UserName::as_str)
    }

    /// Fails from the moment on that the key has expired: asked again for every session and forward.
    pub fn check(&self, now: Timestamp) -> Result<(), Denial> {
        if is_expired(&self.key, now) { Err(Denial::Expired) } else { Ok(()) }
    }

    /// A terminal.
    #[must_use]
    pub fn may_have_terminal(&self) -> bool {
        self.key.options.pty
    }

    /// An agent.
    #[must_use]
    pub fn may_forward_agent(&self) -> bool {
        self.key.options.agent_forwarding
    }

    /// What is run when the client asks for `asked`: a forced command takes the place of everything, SFTP too.
    #[must_use]
    pub fn program(&self, asked: Program) -> Chosen {
        let Some(program) = self.key.options.command.clone() else {
            return Chosen { program: asked, original: None };
        };
        let original = match asked {
            Program::Command(command) => Some(command),
            Program::Words(words) => Some(words.join(&b' ')),
            Program::Sftp | Program::SftpReadOnly => Some(INTERNAL_SFTP.as_bytes().to_vec()),
            Program::Shell | Program::Portal => None,
        };
        Chosen { program, original }
    }

    /// The session's variables: those of the client whose names `accepted` allows, then those of the key, which win.
    #[must_use]
    pub fn environment(&self, accepted: &[String], asked: &[(String, Opaque)]) -> Vec<Opaque> {
        let mut variables = client_environment(accepted, asked);
        for (name, value) in &self.key.options.environment {
            set(&mut variables, name, value.as_bytes());
        }
        let pairs = variables.into_iter().map(|(name, value)| {
            let mut pair = name.into_bytes();
            pair.push(b'=');
            pair.extend(value);
            Opaque(pair)
        });
        pairs.collect()
    }

    /// A forward to there, as far as the name says; [`Reserved::check`] looks at what it leads to.
    pub fn connect(&self, to: &Place) -> Result<(), Denial> {
        let options = &self.key.options;
        if !options.port_forwarding {
            return Err(Denial::Forwarding);
        }
        match to {
            Place::Tcp { host, port } if host.is_empty() || *port == 0 => {
                Err(Denial::NoPlace(shown_place(to)))
            }
            Place::Tcp { host, port } => match &options.permit_open {
                Some(permits) if !permits.iter().any(|permit| permit.allows(host, *port)) => {
                    Err(Denial::Destination(shown_place(to)))
                }
                _ => Ok(()),
            },
            Place::Unix { path } if !is_socket_path(path) => Err(Denial::NoPlace(shown_place(to))),
            // sshd lets these pass; a list of places that may be reached must not be gone round.
            Place::Unix { .. } if options.permit_open.is_some() => {
                Err(Denial::Destination(shown_place(to)))
            }
            Place::Unix { .. } => Ok(()),
        }
    }

    /// A forward that listens there.
    pub fn listen(&self, at: &Place) -> Result<(), Denial> {
        let options = &self.key.options;
        if !options.port_forwarding {
            return Err(Denial::Forwarding);
        }
        match at {
            Place::Tcp { host, port } => match &options.permit_listen {
                Some(permits) if !permits.iter().any(|permit| permit.allows(host, *port)) => {
                    Err(Denial::Listen(shown_place(at)))
                }
                _ => Ok(()),
            },
            Place::Unix { path } if !is_socket_path(path) => Err(Denial::NoPlace(shown_place(at))),
            Place::Unix { .. } if options.permit_listen.is_some() => {
                Err(Denial::Listen(shown_place(at)))
            }
            Place::Unix { .. } => Ok(()),
        }
    }
}

/// Longest path of a unix socket (`sun_path` of unix(7)), in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

fn is_socket_path(path: &[u8]) -> bool {
    (1..=SOCKET_PATH_BYTES_MAX).contains(&path.len()) && !path.contains(&0)
}

fn shown_place(place: &Place) -> String {
    match place {
        Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Place::Tcp { host, port } => format!("{host}:{port}"),
        Place::Unix { path } => String::from_utf8_lossy(path).into_owned(),
    }
}

/// Addresses at which clouds give credentials to whoever asks from inside.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// What no forward may reach, whatever the key says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    gateway: Vec<SocketAddr>,
}

impl Reserved {
    /// The metadata of clouds, and the gateway at these addresses and ports.
    #[must_use]
    pub fn new(gateway: Vec<SocketAddr>) -> Self {
        Self { gateway }
    }

    /// Whether a forward may reach this address, which is what its name has led to.
    pub fn check(&self, to: SocketAddr) -> Result<(), Denial> {
        let address = plain(to.ip());
        if is_metadata(address) {
            return Err(Denial::Reserved(address, "it is the metadata service of a cloud"));
        }
        let is_gateway = |own: &SocketAddr| plain(own.ip()) == address && own.port() == to.port();
        if self.gateway.iter().any(is_gateway) {
            return Err(Denial::Reserved(address, "it is the gateway itself"));
        }
        Ok(())
    }
}

/// Whether this is the metadata service of a cloud. For portals, which ask before they connect.
#[must_use]
pub fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&plain(address))
}

/// The IPv4 address in an IPv6 one: mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), or for translators
/// (RFC 6052, 2.1).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let inner = || {
        let [.., high, low] = six.segments();
        IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
    };
    match six.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => inner(),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => inner(),
        _ => address,
    }
}

/// Names that loaders, shells and interpreters obey, or that we set ourselves; a `*` at the end stands for any rest.
const NEVER_ACCEPTED: [&str; 36] = [
    "LD_*",
    "GLIBC_*",
    "MALLOC_*",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "BASH_*",
    "BASHOPTS",
    "SHELLOPTS",
    "ENV",
    "IFS",
    "PS4",
    "CDPATH",
    "GLOBIGNORE",
    "PERL5*",
    "PERLLIB",
    "PYTHON*",
    "RUBY*",
    "NODE_*",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "PROMPT_COMMAND",
    "GIT_SSH*",
    "GIT_EXEC_PATH",
    "GIT_CONFIG*",
    "GIT_PROXY_COMMAND",
    "OPENSSL_CONF",
    "LESSOPEN",
    "LESSCLOSE",
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "SSH_*",
];

/// Longest name of a variable, in bytes.
const VARIABLE_BYTES_MAX: usize = 64;

/// What is wrong with a pattern of variables that clients may set.
#[must_use]
pub fn environment_pattern_fault(pattern: &str) -> Option<String> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    if !is_variable(name) {
        return Some(format!("{pattern:?} is no NAME or NAME_* of a variable"));
    }
    let is_open = pattern.ends_with('*');
    let forbidden = NEVER_ACCEPTED.iter().find(|never| match never.strip_suffix('*') {
        Some(never) => name.starts_with(never) || (is_open && never.starts_with(name)),
        None => **never == name || (is_open && never.starts_with(name)),
    });
    forbidden.map(|never| format!("{pattern:?} would allow {never}, which no client may set"))
}

/// Whether `accepted` has a pattern for the variable `name`.
#[must_use]
pub fn accepts_variable(accepted: &[String], name: &str) -> bool {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    };
    is_variable(name)
        && !NEVER_ACCEPTED.iter().any(|pattern| matches(pattern))
        && accepted.iter().any(|pattern| matches(pattern))
}

fn is_variable(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && name.len() <= VARIABLE_BYTES_MAX
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain)
}

/// The variables of a client that it may set, the last of a name, as many as there is room for.
fn client_environment(accepted: &[String], asked: &[(String, Opaque)]) -> Vec<(String, Vec<u8>)> {
    let mut variables = Vec::new();
    let mut bytes = 0;
    for (name, Opaque(value)) in asked.iter().take(ENVIRONMENT_COUNT_MAX) {
        bytes += name.len() + value.len();
        if bytes > ENVIRONMENT_BYTES_MAX {
            break;
        }
        if accepts_variable(accepted, name) && !value.contains(&0) {
            set(&mut variables, name, value);
        }
    }
    variables
}

fn set(variables: &mut Vec<(String, Vec<u8>)>, name: &str, value: &[u8]) {
    match variables.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => variables.push((name.to_owned(), value.to_vec())),
    }
}
