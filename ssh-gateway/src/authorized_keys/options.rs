//! What stands before a key.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::patterns::is_match;
use super::{AddressList, PatternList};
use crate::login::{UserName, shown};
use crate::wire::Program;

/// The command that asks for our own SFTP server, as in sshd_config(5).
pub const INTERNAL_SFTP: &str = "internal-sftp";

/// Longest value of an option, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// Most `permitopen`, `permitlisten` or `environment` options of a key.
const REPEATED_MAX: usize = 256;

/// Most principals of an authority.
const PRINCIPALS_MAX: usize = 256;

/// Most users of a key.
const USERS_MAX: usize = 64;

/// What a key may do. As in sshd, everything until an option takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is run, whatever the client asks for.
    pub command: Option<Program>,
    /// Where the client may come from.
    pub from: Option<AddressList>,
    /// The key does not count from then on.
    pub expiry: Option<Timestamp>,
    /// Variables for the session, in order.
    pub environment: Vec<(String, String)>,
    /// Terminals.
    pub pty: bool,
    /// Agents.
    pub agent_forwarding: bool,
    /// Forwards of any kind.
    pub port_forwarding: bool,
    /// Where forwards may lead; anywhere when `None`.
    pub permit_open: Option<Vec<OpenPermit>>,
    /// Where forwards may listen; anywhere when `None`.
    pub permit_listen: Option<Vec<ListenPermit>>,
    /// A security key need not be touched.
    pub no_touch_required: bool,
    /// A security key must be unlocked.
    pub verify_required: bool,
    /// The key is no user's: it signs certificates of users.
    pub cert_authority: bool,
    /// Names, one of which a certificate must have, as a whole; empty for keys of users.
    pub principals: Vec<String>,
    /// Names of containers that may be entered; all when `None`. Not in sshd.
    pub containers: Option<PatternList>,
    /// Users that may be chosen, the first one when none is; all when empty. Not in sshd.
    pub users: Vec<UserName>,
}

/// How clients write the loopback's addresses. No host at all is the loopback here, as with sshd's `GatewayPorts no`.
const LOOPBACK_NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", ""];

/// `permitopen="HOST:PORT"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPermit {
    /// As the client must write it; `*` for any.
    pub host: String,
    /// `None` for any.
    pub port: Option<u16>,
}

/// `permitlisten="[HOST:]PORT"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenPermit {
    /// A pattern, in small letters.
    pub host: String,
    /// It is the loopback however a client writes that, and `host` is how we do.
    pub is_loopback: bool,
    /// `None` for any.
    pub port: Option<u16>,
}

impl OpenPermit {
    /// Reads `HOST:PORT`; a port may be `*`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = host_and_port(text)?;
        Some(Self { host: host.to_owned(), port })
    }

    /// Whether it is for this host and port.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        (self.host == "*" || self.host == host) && self.port.is_none_or(|its| its == port)
    }
}

impl ListenPermit {
    /// Reads `[HOST:]PORT`; a port may be `*`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) =
            if text.contains(':') { host_and_port(text)? } else { ("*", port(text)?) };
        Some(Self { host: host.to_lowercase(), is_loopback: false, port })
    }

    /// Reads `[HOST:]PORT` as a rule of a policy has it: a port alone is one of the loopback's, where sshd's
    /// `permitlisten` means any address.
    pub(crate) fn parse_local(text: &str) -> Option<Self> {
        let is_loopback = !text.contains(':');
        let permit = Self::parse(text)?;
        let host = if is_loopback { LOOPBACK_NAMES[0].to_owned() } else { permit.host };
        Some(Self { host, is_loopback, port: permit.port })
    }

    /// Whether it is for this host and port.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.to_lowercase();
        let is_host = if self.is_loopback {
            LOOPBACK_NAMES.contains(&host.as_str())
        } else {
            is_match(&self.host, &host)
        };
        is_host && self.port.is_none_or(|its| its == port)
    }
}

impl fmt::Display for OpenPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.host, self.port)
    }
}

impl fmt::Display for ListenPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.host, self.port)
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, host: &str, port: Option<u16>) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:") } else { write!(f, "{host}:") }?;
    match port {
        Some(port) => write!(f, "{port}"),
        None => f.write_str("*"),
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command: None,
            from: None,
            expiry: None,
            environment: Vec::new(),
            pty: true,
            agent_forwarding: true,
            port_forwarding: true,
            permit_open: None,
            permit_listen: None,
            no_touch_required: false,
            verify_required: false,
            cert_authority: false,
            principals: Vec::new(),
            containers: None,
            users: Vec::new(),
        }
    }
}

impl Options {
    /// Reads a list of options; they count in their order.
    pub(super) fn parse(
        text: &str,
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (name, value, after) = option(rest)?;
            options.apply(&name.to_ascii_lowercase(), value, accepts_variable)?;
            rest = match after.strip_prefix(',') {
                Some("") => return Err("the options end with a comma".to_owned()),
                Some(after) => after,
                None if after.is_empty() => after,
                None => return Err(format!("a comma is missing after the option {}", shown(name))),
            };
        }
        match (options.cert_authority, options.principals.is_empty()) {
            (true, true) => Err(
                "cert-authority needs principals=\"NAME,NAME\": whoever its certificates are for \
                 would come in"
                    .to_owned(),
            ),
            (false, false) => Err("principals is for lines with cert-authority".to_owned()),
            _ => Ok(options),
        }
    }

    fn apply(
        &mut self,
        name: &str,
        value: Option<String>,
        accepts_variable: &dyn Fn(&str) -> bool,
    ) -> Result<(), String> {
        match (name, value) {
            ("restrict", None) => {
                self.pty = false;
                self.agent_forwarding = false;
                self.port_forwarding = false;
            }
            ("pty", None) => self.pty = true,
            ("no-pty", None) => self.pty = false,
            ("agent-forwarding", None) => self.agent_forwarding = true,
            ("no-agent-forwarding", None) => self.agent_forwarding = false,
            ("port-forwarding", None) => self.port_forwarding = true,
            ("no-port-forwarding", None) => self.port_forwarding = false,
            // There is neither: nothing to allow and nothing to forbid.
            ("x11-forwarding" | "no-x11-forwarding" | "user-rc" | "no-user-rc", None) => {}
            ("no-touch-required", None) => self.no_touch_required = true,
            ("verify-required", None) => self.verify_required = true,
            ("command", Some(command)) => {
                once(name, &mut self.command, forced_command(command)?)?;
            }
            ("from", Some(list)) => once(name, &mut self.from, AddressList::parse(&list)?)?,
            ("expiry-time", Some(time)) => {
                let expiry = moment(&time).ok_or_else(|| {
                    format!("expiry-time={time:?} is no time: give {MOMENT_FORMS}")
                })?;
                self.expiry = Some(self.expiry.map_or(expiry, |other| other.min(expiry)));
            }
            ("environment", Some(pair)) => {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("environment={pair:?} is no NAME=value"))?;
                if !accepts_variable(name) {
                    let name = shown(name);
                    return Err(format!("the variable {name} may not be set: see accept_env"));
                }
                // As in sshd, the first one counts.
                if !self.environment.iter().any(|(other, _)| other == name) {
                    push(&mut self.environment, (name.to_owned(), value.to_owned()))?;
                }
            }
            ("permitopen", Some(permit)) => {
                let permit = OpenPermit::parse(&permit).ok_or_else(|| {
                    format!("permitopen={permit:?} is no HOST:PORT; a port may be *")
                })?;
                push(self.permit_open.get_or_insert_default(), permit)?;
            }
            ("permitlisten", Some(permit)) => {
                let permit = ListenPermit::parse(&permit).ok_or_else(|| {
                    format!("permitlisten={permit:?} is no [HOST:]PORT; a port may be *")
                })?;
                push(self.permit_listen.get_or_insert_default(), permit)?;
            }
            ("container", Some(list)) => {
                once(name, &mut self.containers, PatternList::parse(&list)?)?;
            }
            ("user", Some(list)) => {
                if !self.users.is_empty() {
                    return Err("there is more than one option user".to_owned());
                }
                self.users = users(&list)?;
            }
            ("cert-authority", None) => self.cert_authority = true,
            ("principals", Some(list)) => {
                if !self.principals.is_empty() {
                    return Err("there is more than one option principals".to_owned());
                }
                self.principals = principals(&list)?;
            }
            ("tunnel", _) => return Err("tunnel: there are no tunnels in this release".to_owned()),
            (name, value) if TAKES_VALUE.contains(&name) && value.is_none() => {
                return Err(format!("the option {name} lacks its value: {name}=\"…\""));
            }
            (name, Some(_)) if IS_FLAG.contains(&name) => {
                return Err(format!("the option {name} takes no value"));
            }
            (name, _) => return Err(format!("there is no option {}", shown(name))),
        }
        Ok(())
    }
}

const TAKES_VALUE: [&str; 9] = [
    "principals",
    "command",
    "from",
    "expiry-time",
    "environment",
    "permitopen",
    "permitlisten",
    "container",
    "user",
];

const IS_FLAG: [&str; 14] = [
    "cert-authority",
    "restrict",
    "pty",
    "no-pty",
    "agent-forwarding",
    "no-agent-forwarding",
    "port-forwarding",
    "no-port-forwarding",
    "x11-forwarding",
    "no-x11-forwarding",
    "user-rc",
    "no-user-rc",
    "no-touch-required",
    "verify-required",
];

/// What a forced command is: a command, or our own SFTP server with the options of sftp-server(8) that it keeps.
pub(crate) fn forced_command(command: String) -> Result<Program, String> {
    let mut words = command.split_whitespace();
    if words.next() != Some(INTERNAL_SFTP) {
        return Ok(Program::Command(command.into_bytes()));
    }
    let mut program = Program::Sftp;
    while let Some(word) = words.next() {
        let wrong = || {
            format!(
                "{INTERNAL_SFTP} does not keep {}: in this release only -R, and -e, -f and -l, whose logging the \
                 gateway does by itself",
                shown(word)
            )
        };
        let mut letters =
            word.strip_prefix('-').filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
        while let Some(letter) = letters.chars().next() {
            letters = letters.get(letter.len_utf8()..).unwrap_or_default();
            match letter {
                'R' => program = Program::SftpReadOnly,
                'e' => {}
                // Their value is the rest of the word, or else the next one.
                'f' | 'l' => {
                    if letters.is_empty() {
                        words.next().ok_or_else(wrong)?;
                    }
                    letters = "";
                }
                _ => return Err(wrong()),
            }
        }
    }
    Ok(program)
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("there is more than one option {name}")),
    }
}

fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), String> {
    if list.len() >= REPEATED_MAX {
        return Err(format!("there are more than {REPEATED_MAX} options of one kind"));
    }
    list.push(value);
    Ok(())
}

/// The first option: its name, its value without quotes, and what follows it.
fn option(text: &str) -> Result<(&str, Option<String>, &str), String> {
    let end = text.find([',', '=']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let Some(quoted) = rest.strip_prefix('=') else { return Ok((name, None, rest)) };
    let no_quotes = || format!("the value of the option {} is not in quotes", shown(name));
    let quoted = quoted.strip_prefix('"').ok_or_else(no_quotes)?;
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                if value.len() > VALUE_BYTES_MAX {
                    let name = shown(name);
                    return Err(format!(
                        "the option {name} is longer than {VALUE_BYTES_MAX} bytes"
                    ));
                }
                return Ok((name, Some(value), quoted.get(at + 1..).unwrap_or_default()));
            }
            // Only a quote is escaped; any other backslash is itself.
            '\\' if quoted.get(at + 1..).is_some_and(|rest| rest.starts_with('"')) => {
                characters.next();
                value.push('"');
            }
            character => value.push(character),
        }
    }
    Err(format!("the value of the option {} lacks its second quote", shown(name)))
}

/// How [`moment`] wants it.
pub(crate) const MOMENT_FORMS: &str = "YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in UTC";

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`. Without a `Z` it is UTC too: a container has no time zone of its own.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let is_time =
        matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_time {
        return None;
    }
    let part =
        |from: usize, to: usize| digits.get(from..to).and_then(|text| text.parse::<i16>().ok());
    let small = |from: usize| part(from, from + 2).map_or(Ok(0), i8::try_from).ok();
    let time =
        DateTime::new(part(0, 4)?, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?, 0);
    let time = time.and_then(|time| time.to_zoned(TimeZone::UTC)).ok()?;
    Some(time.timestamp())
}

fn port(text: &str) -> Option<Option<u16>> {
    if text == "*" {
        return Some(None);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>().ok().filter(|port| is_number && *port > 0).map(Some)
}

/// `HOST:PORT`, the host perhaps in brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, after) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':')?)
        }
        None => text.split_once(':').filter(|(_, port)| !port.contains(':'))?,
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_control() || c == ' ');
    Some((host, port(after)?)).filter(|_| is_host)
}

/// Names with a comma between them; they are compared as they are.
fn principals(list: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    let is_wrong = |name: &String| {
        name.is_empty()
            || name.trim() != name
            || name.contains(|letter: char| matches!(letter, '*' | '?') || letter.is_control())
    };
    if names.iter().any(is_wrong) || names.len() > PRINCIPALS_MAX {
        return Err(format!(
            "principals={list:?} is no list of up to {PRINCIPALS_MAX} names: they are compared as a whole, without * and ?"
        ));
    }
    Ok(names)
}

fn users(list: &str) -> Result<Vec<UserName>, String> {
    let users: Result<Vec<UserName>, _> = list.split(',').map(|user| user.trim().parse()).collect();
    let users =
        users.map_err(|error: crate::login::LoginError| format!("user={list:?}: {error}"))?;
    if users.len() > USERS_MAX {
        return Err(format!("there are more than {USERS_MAX} users"));
    }
    Ok(users)
}
