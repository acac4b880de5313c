//! What stands before a key.

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
    /// Names of containers that may be entered; all when `None`. Not in sshd.
    pub containers: Option<PatternList>,
    /// Users that may be chosen, the first one when none is; all when empty. Not in sshd.
    pub users: Vec<UserName>,
}

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
    /// `None` for any.
    pub port: Option<u16>,
}

impl OpenPermit {
    /// Whether it is for this host and port.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        (self.host == "*" || self.host == host) && self.port.is_none_or(|its| its == port)
    }
}

impl ListenPermit {
    /// Whether it is for this host and port.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> bool {
        is_match(&self.host, &host.to_lowercase()) && self.port.is_none_or(|its| its == port)
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
        Ok(options)
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
                let expiry = expiry(&time)?;
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
                push(self.permit_open.get_or_insert_default(), open_permit(&permit)?)?;
            }
            ("permitlisten", Some(permit)) => {
                push(self.permit_listen.get_or_insert_default(), listen_permit(&permit)?)?;
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
            ("cert-authority" | "principals", _) => {
                return Err(format!("{name}: certificates are not in this release"));
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

const TAKES_VALUE: [&str; 8] = [
    "command",
    "from",
    "expiry-time",
    "environment",
    "permitopen",
    "permitlisten",
    "container",
    "user",
];

const IS_FLAG: [&str; 13] = [
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
fn forced_command(command: String) -> Result<Program, String> {
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

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`. Without a `Z` it is UTC too: a container has no time zone of its own.
fn expiry(text: &str) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "expiry-time={text:?} is no time: give YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in UTC"
        )
    };
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let is_time =
        matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_time {
        return Err(wrong());
    }
    let part =
        |from: usize, to: usize| digits.get(from..to).and_then(|text| text.parse::<i16>().ok());
    let small = |from: usize| part(from, from + 2).map_or(Ok(0), i8::try_from).map_err(|_| wrong());
    let year = part(0, 4).ok_or_else(wrong)?;
    let time = DateTime::new(year, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?, 0);
    let time = time.and_then(|time| time.to_zoned(TimeZone::UTC)).map_err(|_| wrong())?;
    Ok(time.timestamp())
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

fn open_permit(text: &str) -> Result<OpenPermit, String> {
    let (host, port) = host_and_port(text)
        .ok_or_else(|| format!("permitopen={text:?} is no HOST:PORT; a port may be *"))?;
    Ok(OpenPermit { host: host.to_owned(), port })
}

fn listen_permit(text: &str) -> Result<ListenPermit, String> {
    let wrong = || format!("permitlisten={text:?} is no [HOST:]PORT; a port may be *");
    let (host, port) = if text.contains(':') {
        host_and_port(text).ok_or_else(wrong)?
    } else {
        ("*", port(text).ok_or_else(wrong)?)
    };
    Ok(ListenPermit { host: host.to_lowercase(), port })
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
