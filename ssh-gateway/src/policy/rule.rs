//! One rule: who may do what where, and when.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use chores_common::settings;
use jiff::Timestamp;

use super::hours::Hours;
use super::targets::Targets;
use super::{Denial, shown_place};
use crate::authorized_keys::{AddressList, ListenPermit, OpenPermit};
use crate::login::UserName;
use crate::wire::Program;
use crate::wire::net::Place;

/// A rule. What it does not name is not allowed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Its line in the policy, from 1; `None` for the one that stands for no policy.
    pub line: Option<usize>,
    /// Whose keys.
    pub who: Who,
    /// Which containers.
    pub targets: Targets,
    /// As whom.
    pub users: Users,
    /// What.
    pub allow: Allow,
    /// What is run, whatever the client asks for.
    pub command: Option<Program>,
    /// A command may run in several containers at once.
    pub fan_out: bool,
    /// Where forwards may lead.
    pub forward: Places<OpenPermit>,
    /// Where forwards may listen.
    pub listen: Places<ListenPermit>,
    /// Somebody must have touched the security key.
    pub require_touch: bool,
    /// Somebody must have unlocked the security key, by a PIN or a fingerprint.
    pub require_verification: bool,
    /// The client must have given a code of its authenticator application.
    pub require_code: bool,
    /// Where clients may come from; anywhere when `None`.
    pub from: Option<AddressList>,
    /// When; at any time when `None`.
    pub hours: Option<Hours>,
    /// It does not count from then on.
    pub expiry: Option<Timestamp>,
    /// What is kept of sessions; as the configuration says when `None`.
    pub record: Option<Record>,
    /// What may be done that cannot be recorded; as the configuration says when `None`.
    pub unrecorded: Option<Unrecorded>,
    /// When sessions get the toolbox; as the configuration says when `None`.
    pub toolbox: Option<ToolboxUse>,
    /// The toolbox has what looks into other processes too.
    pub toolbox_trace: bool,
    /// How long a terminal whose connection was lost waits for its client; not at all when `None`.
    pub linger: Option<Duration>,
}

/// What is kept of sessions, beside the lines of the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// Nothing.
    #[default]
    Nothing,
    /// What programs put out.
    Output,
    /// The same, and what is typed while the terminal echoes.
    Input,
}

/// What may be done that cannot be recorded, because the disk is full or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unrecorded {
    /// Nothing.
    #[default]
    Refuse,
    /// Everything.
    Allow,
}

/// When sessions get programs of the gateway's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolboxUse {
    /// Where the image lacks what they are for.
    #[default]
    Auto,
    /// Nowhere.
    Never,
    /// Everywhere.
    Always,
}

/// The words of `toolbox`.
const TOOLBOX_WORDS: [&str; 3] = ["auto", "never", "always"];
/// The words of `record`.
const RECORD_WORDS: [&str; 3] = ["nothing", "output", "input"];
/// The words of `unrecorded`.
const UNRECORDED_WORDS: [&str; 2] = ["refuse", "allow"];

impl std::str::FromStr for Record {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nothing" => Ok(Self::Nothing),
            "output" => Ok(Self::Output),
            "input" => Ok(Self::Input),
            other => Err(settings::one_of(other, &RECORD_WORDS)),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Output => "output",
            Self::Input => "input",
        })
    }
}

impl std::str::FromStr for ToolboxUse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            other => Err(settings::one_of(other, &TOOLBOX_WORDS)),
        }
    }
}

impl fmt::Display for ToolboxUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Never => "never",
            Self::Always => "always",
        })
    }
}

impl std::str::FromStr for Unrecorded {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "allow" => Ok(Self::Allow),
            other => Err(settings::one_of(other, &UNRECORDED_WORDS)),
        }
    }
}

/// Whose keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Every key that is known.
    Everyone,
    /// Those of these identities.
    Identities(BTreeSet<String>),
}

/// As whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Anybody; the container's own user when none is asked for.
    Any,
    /// These; the first one when none is asked for. Never empty.
    Only(Vec<RuleUser>),
}

/// A user that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleUser {
    /// The container's own, whoever that is: only without a user in the login name.
    Own,
    /// This one, exactly as written.
    Named(UserName),
}

/// What a session may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allow {
    /// A login shell.
    pub shell: bool,
    /// Commands: any, a shell among them.
    pub exec: bool,
    /// Files.
    pub sftp: Files,
    /// Terminals.
    pub terminal: bool,
    /// Agents.
    pub agent: bool,
}

/// What may be done with files over SFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Files {
    /// Nothing.
    #[default]
    No,
    /// Reading.
    Read,
    /// Everything.
    Write,
}

/// Places for forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places<P> {
    /// All.
    All,
    /// These.
    Only {
        /// TCP.
        tcp: Vec<P>,
        /// Paths of unix sockets, exactly as the client writes them.
        unix: Vec<Vec<u8>>,
    },
}

impl<P> Places<P> {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::Only { tcp: Vec::new(), unix: Vec::new() }
    }

    fn has(&self, place: &Place, allows: impl Fn(&P, &str, u16) -> bool) -> bool {
        match (self, place) {
            (Self::All, _) => true,
            (Self::Only { tcp, .. }, Place::Tcp { host, port }) => {
                tcp.iter().any(|permit| allows(permit, host, *port))
            }
            (Self::Only { unix, .. }, Place::Unix { path }) => unix.contains(path),
        }
    }
}

impl<P: fmt::Display> fmt::Display for Places<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everywhere"),
            Self::Only { tcp, unix } if tcp.is_empty() && unix.is_empty() => f.write_str("nowhere"),
            Self::Only { tcp, unix } => {
                let paths = unix.iter().map(|path| String::from_utf8_lossy(path).into_owned());
                let places: Vec<_> = tcp.iter().map(P::to_string).chain(paths).collect();
                f.write_str(&places.join(", "))
            }
        }
    }
}

impl Rule {
    /// Whether both say the same, wherever they stand.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.line == other.line && self == other
            || Self { line: other.line, ..self.clone() } == *other
    }

    /// What holds where there is no policy, only keys: each may do everything that its line does not take away.
    #[must_use]
    pub fn of_keys() -> Self {
        Self {
            name: "authorized_keys".to_owned(),
            line: None,
            who: Who::Everyone,
            targets: Targets::default(),
            users: Users::Any,
            allow: Allow {
                shell: true,
                exec: true,
                sftp: Files::Write,
                terminal: true,
                agent: true,
            },
            command: None,
            fan_out: false,
            forward: Places::All,
            listen: Places::All,
            require_touch: false,
            require_verification: false,
            require_code: false,
            from: None,
            hours: None,
            expiry: None,
            record: None,
            unrecorded: None,
            toolbox: None,
            toolbox_trace: false,
            linger: None,
        }
    }

    /// Whether it is about this identity's keys.
    #[must_use]
    pub fn is_about(&self, owner: Option<&str>) -> bool {
        match &self.who {
            Who::Everyone => true,
            Who::Identities(names) => owner.is_some_and(|owner| names.contains(owner)),
        }
    }

    /// Whether it counts for a client from there.
    #[must_use]
    pub fn is_from(&self, peer: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|from| from.contains(peer))
    }

    /// Whether it counts now.
    pub fn check(&self, now: Timestamp) -> Result<(), Denial> {
        if self.expiry.is_some_and(|expiry| now >= expiry) {
            return Err(Denial::Policy("this any more: its rule has expired".to_owned()));
        }
        if self.hours.as_ref().is_some_and(|hours| !hours.contains(now)) {
            return Err(Denial::Policy("this at this time of the week".to_owned()));
        }
        Ok(())
    }

    /// As whom, where the key allows `of_key` (all when empty) and the client asks for `asked`; `Some(None)` is the
    /// container's own user.
    #[must_use]
    pub fn user(&self, of_key: &[UserName], asked: Option<&UserName>) -> Option<Option<UserName>> {
        let allows = |user: &UserName| match &self.users {
            Users::Any => true,
            Users::Only(users) => {
                users.iter().any(|its| matches!(its, RuleUser::Named(name) if name == user))
            }
        };
        match asked {
            Some(user) => {
                let is_allowed = (of_key.is_empty() || of_key.contains(user)) && allows(user);
                is_allowed.then(|| Some(user.clone()))
            }
            // Who the container's own user is, is not known here: a key that names users does not mean that one.
            None if !of_key.is_empty() => {
                of_key.iter().find(|user| allows(user)).map(|user| Some(user.clone()))
            }
            None => match &self.users {
                Users::Any => Some(None),
                Users::Only(users) => users.first().map(|user| match user {
                    RuleUser::Own => None,
                    RuleUser::Named(name) => Some(name.clone()),
                }),
            },
        }
    }

    /// What is run when `asked` is to be run and nothing is forced.
    pub fn program(&self, asked: Program) -> Result<Program, Denial> {
        let denied = |what: &str| Err(Denial::Policy(what.to_owned()));
        match (asked, self.allow.sftp) {
            (Program::Shell, _) if !self.allow.shell => denied("a shell"),
            (Program::Command(_) | Program::Words(_), _) if !self.allow.exec => denied("commands"),
            (Program::Sftp | Program::SftpReadOnly, Files::No) => denied("SFTP"),
            (Program::Sftp, Files::Read) => Ok(Program::SftpReadOnly),
            // Nobody asks for it in a session.
            (Program::Portal, _) => denied("a portal"),
            (program, _) => Ok(program),
        }
    }

    /// A forward to there.
    pub fn connect(&self, to: &Place) -> Result<(), Denial> {
        if self.forward.has(to, OpenPermit::allows) {
            return Ok(());
        }
        Err(Denial::Policy(format!("forwards to {}", shown_place(to))))
    }

    /// A forward that listens there.
    pub fn listen(&self, at: &Place) -> Result<(), Denial> {
        if self.listen.has(at, ListenPermit::allows) {
            return Ok(());
        }
        Err(Denial::Policy(format!("to listen at {}", shown_place(at))))
    }
}
