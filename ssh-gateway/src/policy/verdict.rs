//! What a policy says about one key and one target, with its reasons: for `policy explain` and `policy test`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use chores_common::engine::ListedContainer;
use jiff::Timestamp;

use super::{Access, Denial, Grant, Policy, Reserved, admit_lines};
use crate::authorized_keys::{AuthorizedKey, ListenPermit, OpenPermit};
use crate::login::{self, Login, Resolution, UserName};
use crate::proof::Presence;
use crate::wire::Program;
use crate::wire::net::Place;

#[cfg(test)]
mod tests;

/// Who comes from where, and when.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The lines of its key, or of the authority whose certificate it has: one that takes nothing away.
    pub lines: &'a [Arc<AuthorizedKey>],
    /// Where from.
    pub peer: IpAddr,
    /// When.
    pub now: Timestamp,
}

/// Whoever asks what may be done means a key that is used as is demanded.
const PRESENT: Presence = Presence::Signed { touched: true, verified: true };

/// One rule with one line of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The name of the rule.
    pub rule: String,
    /// Its line in the policy, from 1.
    pub line: Option<usize>,
    /// Where the line of the key is: `FILE:LINE`.
    pub key: String,
    /// What comes of both.
    pub outcome: Outcome,
}

/// What comes of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It decides.
    Decides,
    /// It would fit too, but another one stands before it.
    TooLate,
    /// It does not fit, and why.
    No(Denial),
}

/// The container that a client gets for a target, and what it may do there: as the broker finds it, in which what may
/// not be entered does not exist. One sentence where there is none.
pub fn enter(
    policy: &Policy,
    client: Client<'_>,
    target: &Login,
    containers: &[ListedContainer],
) -> Result<(ListedContainer, Access), String> {
    let identity = admit_lines(policy, client.lines, PRESENT, client.peer, client.now);
    let identity = identity.map_err(|denial| denial.to_string())?;
    let may_enter = |container: &&ListedContainer| identity.may_enter(container);
    let listed: Vec<_> = containers.iter().filter(may_enter).cloned().collect();
    let resolution = login::resolve(&target.selector, &listed);
    let Resolution::One(container) = resolution else {
        return Err(login::explain(&target.selector, &resolution).unwrap_or_default());
    };
    let access = identity.access(container, target.user.as_ref(), client.now);
    Ok((container.clone(), access.map_err(|denial| denial.to_string())?))
}

/// What every rule says about this container and user, in their order.
#[must_use]
pub fn explain(
    policy: &Policy,
    client: Client<'_>,
    container: &ListedContainer,
    user: Option<&UserName>,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut is_decided = false;
    for rule in policy.rules() {
        for key in client.lines {
            let fits = Grant::of(key, rule, PRESENT, client.peer, client.now).and_then(|grant| {
                if !login::is_enabled(container) || !grant.allows(container) {
                    return Err(Denial::Container);
                }
                grant.user(user)
            });
            let outcome = match fits {
                Ok(_) if std::mem::replace(&mut is_decided, true) => Outcome::TooLate,
                Ok(_) => Outcome::Decides,
                Err(denial) => Outcome::No(denial),
            };
            verdicts.push(Verdict {
                rule: rule.name.clone(),
                line: rule.line,
                key: format!("{}:{}", key.source, key.line),
                outcome,
            });
        }
    }
    verdicts
}

/// Something that a client may do in a container, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To come in at all.
    Enter,
    /// A login shell.
    Shell,
    /// Commands.
    Exec,
    /// SFTP.
    Sftp,
    /// SFTP, reading at least.
    SftpRead,
    /// A terminal.
    Terminal,
    /// An agent.
    Agent,
    /// A command in this container among others.
    FanOut,
    /// A forward to there.
    Forward(Place),
    /// A forward that listens there.
    Listen(Place),
}

/// Those that need no place.
pub const ACTIONS: [Action; 8] = [
    Action::Enter,
    Action::Shell,
    Action::Exec,
    Action::Sftp,
    Action::SftpRead,
    Action::Terminal,
    Action::Agent,
    Action::FanOut,
];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter => f.write_str("enter"),
            Self::Shell => f.write_str("shell"),
            Self::Exec => f.write_str("exec"),
            Self::Sftp => f.write_str("sftp"),
            Self::SftpRead => f.write_str("sftp-read"),
            Self::Terminal => f.write_str("terminal"),
            Self::Agent => f.write_str("agent"),
            Self::FanOut => f.write_str("fanout"),
            Self::Forward(place) => write!(f, "forward {}", super::shown_place(place)),
            Self::Listen(place) => write!(f, "listen {}", super::shown_place(place)),
        }
    }
}

impl std::str::FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = |place: &str, tcp: fn(&str) -> Option<(String, u16)>| {
            if place.starts_with('/') {
                return Some(Place::Unix { path: place.as_bytes().to_vec() });
            }
            tcp(place).map(|(host, port)| Place::Tcp { host, port })
        };
        let found = match text.split_once(' ') {
            Some(("forward", to)) => place(to, |to| {
                let permit = OpenPermit::parse(to).filter(|permit| permit.host != "*")?;
                Some((permit.host, permit.port?))
            })
            .map(Self::Forward),
            Some(("listen", at)) => place(at, |at| {
                let permit = ListenPermit::parse(at)?;
                // Without a host, as clients ask for the loopback.
                let host = if permit.host == "*" { "localhost".to_owned() } else { permit.host };
                Some((host, permit.port?))
            })
            .map(Self::Listen),
            _ => ACTIONS.iter().find(|action| action.to_string() == text).cloned(),
        };
        found.ok_or_else(|| {
            let words: Vec<_> = ACTIONS.iter().map(Self::to_string).collect();
            format!(
                "{text:?} is nothing that can be done: give {}, \"forward HOST:PORT\" or \"listen HOST:PORT\"",
                words.join(", ")
            )
        })
    }
}

impl Action {
    /// Whether this access allows it; if not, one sentence.
    pub fn check(&self, access: &Access) -> Result<(), String> {
        let told = |denial: Denial| denial.to_string();
        let runs = |asked: Program, wanted: &[Program]| {
            let chosen = access.program(asked).map_err(told)?;
            // What is forced may happen to be what is asked for here.
            if chosen.original.is_none() && wanted.contains(&chosen.program) {
                return Ok(());
            }
            Err(match chosen.program {
                Program::SftpReadOnly => "files can only be read".to_owned(),
                _ => "another program is forced".to_owned(),
            })
        };
        match self {
            Self::Enter => Ok(()),
            Self::Shell => runs(Program::Shell, &[Program::Shell]),
            Self::Exec => {
                let command = Program::Command(b"id".to_vec());
                runs(command.clone(), &[command])
            }
            Self::FanOut if !access.may_fan_out() => Err("the rule has no fanout".to_owned()),
            Self::FanOut => {
                // One that is forced may run in several too.
                let chosen = access.program(Program::Command(b"id".to_vec())).map_err(told)?;
                match chosen.program {
                    Program::Command(_) => Ok(()),
                    _ => Err("another program is forced".to_owned()),
                }
            }
            Self::Sftp => runs(Program::Sftp, &[Program::Sftp]),
            Self::SftpRead => runs(Program::Sftp, &[Program::Sftp, Program::SftpReadOnly]),
            Self::Terminal => access.terminal().map_err(told),
            Self::Agent if access.may_forward_agent() => Ok(()),
            Self::Agent => Err("an agent is not allowed".to_owned()),
            Self::Forward(to) => access.connect(to).and_then(|()| reserved(to)).map_err(told),
            Self::Listen(at) => access.listen(at).map_err(told),
        }
    }
}

/// As far as it can be said without a container: names are looked up there.
fn reserved(to: &Place) -> Result<(), Denial> {
    match to {
        Place::Tcp { host, port } => match host.parse() {
            Ok(address) => Reserved::default().check(SocketAddr::new(address, *port)),
            Err(_) => Ok(()),
        },
        Place::Unix { .. } => Ok(()),
    }
}
