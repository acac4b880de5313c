//! What a client may do: pure answers from a policy, a key, a login name, an address and a time. What no answer here
//! allows is not allowed.
//!
//! ```text
//! keys: lines with options ─┐
//!                           ├→ admit → Identity: grants (rule, line) ─→ access in a container → Access
//! rules: who, where, what ──┘            both must allow                 the first grant that fits decides
//! ```
//!
//! Where there are only keys, one rule stands for the policy, and allows everything that a line does not take away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chores_common::engine::ListedContainer;
use jiff::Timestamp;
use russh::keys::ssh_key::public::KeyData;

use crate::authorized_keys::{AuthorizedKey, AuthorizedKeys, INTERNAL_SFTP, Issued};
use crate::certificate::{self, CertificateError};
use crate::login::{self, UserName, shown};
use crate::proof::{self, Presence};
use crate::revoked::Revoked;
use crate::totp::Secret;
use crate::wire::net::Place;
use crate::wire::{Opaque, Program};

pub mod expectations;
pub mod file;
mod hours;
mod reserved;
mod rule;
mod targets;
mod variables;
pub mod verdict;

pub use file::PolicyError;
pub use hours::Hours;
pub use reserved::{Reserved, is_metadata};
pub use rule::{Allow, Files, Places, Record, Rule, RuleUser, ToolboxUse, Unrecorded, Users, Who};
pub use targets::{ComposePattern, LabelPattern, Targets};
pub use variables::{
    ENVIRONMENT_BYTES_MAX, ENVIRONMENT_COUNT_MAX, ENVIRONMENT_PATTERNS_MAX, accepts_variable,
    environment_pattern_fault,
};

#[cfg(test)]
mod tests;

/// Why something is not allowed. One sentence each, for the client and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The key is in no line.
    #[error("the key is not authorized")]
    UnknownKey,
    /// No rule is about whose key it is.
    #[error("no rule is about the key")]
    NoRule,
    /// It does not count any more.
    #[error("the key is revoked")]
    Revoked,
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It could not be told who comes.
    #[error("the certificate is for more than one identity")]
    Identities,
    /// It is known, but not from there.
    #[error("the key is not authorized from this address")]
    Address,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// Nobody has touched the security key.
    #[error("the key was used without a touch")]
    Touch,
    /// Nobody has unlocked the security key.
    #[error("the key was used without a PIN or a fingerprint")]
    Verification,
    /// It is no security key.
    #[error("the policy demands a security key")]
    SecurityKey,
    /// A second factor is missing.
    #[error("the policy demands a code of an authenticator application")]
    Code,
    /// What let the client in does so no more.
    #[error("what this connection came in by has been changed since: connect again")]
    Withdrawn,
    /// Not this container.
    #[error("the key does not allow this container")]
    Container,
    /// Not as this user.
    #[error("the key does not allow the user {}", shown(.0))]
    User(String),
    /// No terminal.
    #[error("this key may have no terminal")]
    Terminal,
    /// The line and the rule force different commands.
    #[error("the key and the policy force different commands")]
    Commands,
    /// No forwards.
    #[error("the key does not allow forwards")]
    Forwarding,
    /// Not to there.
    #[error("the key does not allow forwards to {}", shown(.0))]
    Destination(String),
    /// Not at that place.
    #[error("the key does not allow to listen at {}", shown(.0))]
    Listen(String),
    /// The rule does not.
    #[error("the policy does not allow {}", shown(.0))]
    Policy(String),
    /// Nothing of the gateway itself.
    #[error("this key may ask the gateway itself nothing")]
    Inquiry,
    /// Something that no forward may reach.
    #[error("forwards to {0} are not allowed: {1}")]
    Reserved(IpAddr, &'static str),
    /// Something that is no address.
    #[error("{} is no place for a forward", shown(.0))]
    NoPlace(String),
}

/// Who may come in, and what they may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    keys: AuthorizedKeys,
    /// In the order in which they are asked.
    rules: Vec<Arc<Rule>>,
    /// The secrets of the codes of those identities that have them.
    secrets: BTreeMap<Arc<str>, Secret>,
    /// What counts no more, whatever the others say.
    revoked: Revoked,
    /// What it was read from: all of it is looked at for changes.
    files: Vec<PathBuf>,
}

impl Policy {
    /// Nothing but keys: each may do what its line does not take away.
    #[must_use]
    pub fn of_keys(keys: AuthorizedKeys) -> Self {
        Self { keys, rules: vec![Arc::new(Rule::of_keys())], ..Self::default() }
    }

    /// Every key that may come in.
    #[must_use]
    pub fn keys(&self) -> &AuthorizedKeys {
        &self.keys
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The secret of an identity's codes.
    #[must_use]
    pub fn secret(&self, identity: &str) -> Option<&Secret> {
        self.secrets.get(identity)
    }

    /// Whether the key of a line is revoked.
    #[must_use]
    pub fn has_revoked(&self, line: &AuthorizedKey) -> bool {
        // One that cannot be written down cannot be looked up.
        line.key.to_bytes().map_or(true, |blob| self.revoked.has_key(&blob))
    }

    /// The same, with another list of what counts no more.
    #[must_use]
    pub fn with_revoked(&self, revoked: Revoked) -> Self {
        Self { revoked, ..self.clone() }
    }

    /// What it was read from.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// A line and a rule that let a client in together: only what both allow is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    key: Arc<AuthorizedKey>,
    rule: Arc<Rule>,
}

impl Grant {
    /// Lets this key in by this rule.
    fn of(
        key: &Arc<AuthorizedKey>,
        rule: &Arc<Rule>,
        presence: Presence,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Self, Denial> {
        if !rule.is_about(key.owner.as_deref()) {
            return Err(Denial::NoRule);
        }
        check_presence(key, rule, presence)?;
        if key.options.from.as_ref().is_some_and(|from| !from.contains(peer)) || !rule.is_from(peer)
        {
            return Err(Denial::Address);
        }
        let grant = Self { key: Arc::clone(key), rule: Arc::clone(rule) };
        grant.check(now)?;
        Ok(grant)
    }

    /// Whether both say the same, wherever they stand.
    fn says_the_same(&self, other: &Self) -> bool {
        let (its, others) = (&self.key, &other.key);
        let is_same_key = (&its.owner, &its.key, &its.options, &its.issued)
            == (&others.owner, &others.key, &others.options, &others.issued);
        is_same_key && self.rule.says_the_same(&other.rule)
    }

    fn check(&self, now: Timestamp) -> Result<(), Denial> {
        if self.key.options.expiry.is_some_and(|expiry| now >= expiry) {
            return Err(Denial::Expired);
        }
        self.rule.check(now)
    }

    fn allows(&self, container: &ListedContainer) -> bool {
        let names = &self.key.options.containers;
        names.as_ref().is_none_or(|list| list.matches(&container.name))
            && self.rule.targets.matches(container)
    }

    /// Whether the gateway itself answers by it: to whoever may run what he likes, and so could look by himself.
    fn inquires(&self) -> bool {
        let is_forced = self.key.options.command.is_some() || self.rule.command.is_some();
        !is_forced && (self.rule.allow.shell || self.rule.allow.exec)
    }

    fn has_terminal(&self) -> Result<(), Denial> {
        if !self.key.options.pty {
            return Err(Denial::Terminal);
        }
        if !self.rule.allow.terminal {
            return Err(Denial::Policy("a terminal".to_owned()));
        }
        Ok(())
    }

    /// As whom; `None` is the container's own user.
    fn user(&self, asked: Option<&UserName>) -> Result<Option<UserName>, Denial> {
        let of_key = &self.key.options.users;
        self.rule.user(of_key, asked).ok_or_else(|| match asked {
            Some(user) if of_key.is_empty() || of_key.contains(user) => {
                Denial::Policy(format!("the user {user}"))
            }
            Some(user) => Denial::User(user.to_string()),
            None => Denial::Policy("any user that the key names".to_owned()),
        })
    }

    /// A forward to there, as far as the line says.
    fn key_connects(&self, to: &Place) -> Result<(), Denial> {
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

    /// A forward that listens there, as far as the line says.
    fn key_listens(&self, at: &Place) -> Result<(), Denial> {
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

/// Whether a security key was used as its line and the rule demand. As in sshd, a touch is demanded unless the line
/// says otherwise.
fn check_presence(key: &AuthorizedKey, rule: &Rule, presence: Presence) -> Result<(), Denial> {
    // Whose certificate is asked for without one at hand (`policy explain`): it may be a security key's.
    let is_any_certificate = key.options.cert_authority && key.issued.is_none();
    let is_security_key = key.is_security_key() || is_any_certificate;
    let demands_touch = rule.require_touch || (is_security_key && !key.options.no_touch_required);
    let demands_verification = rule.require_verification || key.options.verify_required;
    if (demands_touch || demands_verification) && !is_security_key {
        return Err(Denial::SecurityKey);
    }
    match presence {
        // It is seen when it signs.
        Presence::Offered => Ok(()),
        Presence::Signed { touched: false, .. } if demands_touch => Err(Denial::Touch),
        Presence::Signed { verified: false, .. } if demands_verification => {
            Err(Denial::Verification)
        }
        Presence::Signed { .. } => Ok(()),
    }
}

/// Who a client is: it has proved that it holds a key that is authorized from where it comes. Made by [`admit`] only.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What lets it in, in the order of the rules and then of the lines; never empty.
    grants: Vec<Grant>,
}

/// Lets a key in from `peer` at `now`, by the rules and lines that allow it. The caller has proof that the client holds
/// it, or tells nobody what comes of it.
pub fn admit(
    policy: &Policy,
    blob: &[u8],
    presence: Presence,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Identity, Denial> {
    if blob.len() > proof::BLOB_BYTES_MAX {
        return Err(Denial::UnknownKey);
    }
    let lines = lines_of(policy, blob, peer, now)?;
    admit_lines(policy, &lines, presence, peer, now)
}

/// The lines of a key, or those that a certificate has of its authority: narrowed to what it allows.
fn lines_of(
    policy: &Policy,
    blob: &[u8],
    peer: IpAddr,
    now: Timestamp,
) -> Result<Vec<Arc<AuthorizedKey>>, Denial> {
    let certificate = match proof::key(blob) {
        None => return Err(Denial::UnknownKey),
        Some(KeyData::Certificate(certificate)) => certificate,
        Some(_) if policy.revoked.has_key(blob) => return Err(Denial::Revoked),
        Some(_) => return Ok(policy.keys.of_blob(blob).cloned().collect()),
    };
    let blobs = certificate::blobs(&certificate).ok_or(CertificateError::Authority)?;
    let (key, authority) = (blobs.0.as_slice(), blobs.1.as_slice());
    // Before anything is verified that costs more than looking it up.
    let of_authority: Vec<_> = policy.keys.of_authority(authority).collect();
    if of_authority.is_empty() {
        return Err(CertificateError::Authority.into());
    }
    if policy.revoked.has_certificate(&certificate, key, authority) {
        return Err(Denial::Revoked);
    }
    certificate::check(&certificate, peer, now)?;
    let mut lines: Vec<Arc<AuthorizedKey>> = Vec::new();
    let mut error = CertificateError::Nobody;
    for line in of_authority {
        match certificate::narrowed(line, &certificate) {
            Ok(line) => lines.push(Arc::new(line)),
            // One for other principals says less than one that nearly fits.
            Err(CertificateError::Nobody) => {}
            Err(reason) => error = reason,
        }
    }
    let Some(first) = lines.first() else { return Err(error.into()) };
    if lines.iter().any(|line| line.owner != first.owner) {
        return Err(Denial::Identities);
    }
    Ok(lines)
}

/// Lets in who has these lines.
fn admit_lines(
    policy: &Policy,
    lines: &[Arc<AuthorizedKey>],
    presence: Presence,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Identity, Denial> {
    let mut grants = Vec::new();
    let mut denial = Denial::UnknownKey;
    for rule in &policy.rules {
        for key in lines {
            match Grant::of(key, rule, presence, peer, now) {
                Ok(grant) => grants.push(grant),
                // A rule about others says less than one that nearly fits.
                Err(Denial::NoRule) if denial != Denial::UnknownKey => {}
                Err(reason) => denial = reason,
            }
        }
    }
    if grants.is_empty() { Err(denial) } else { Ok(Identity { grants }) }
}

impl Identity {
    /// `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        self.grants.first().map_or("", |grant| &grant.key.fingerprint)
    }

    /// What the file says about the key.
    #[must_use]
    pub fn comment(&self) -> &str {
        self.grants.first().map_or("", |grant| &grant.key.comment)
    }

    /// What its certificate says of itself, if it has one.
    #[must_use]
    pub fn issued(&self) -> Option<&Issued> {
        self.grants.first().and_then(|grant| grant.key.issued.as_ref())
    }

    /// The identity of the policy; `None` where there are only keys.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.grants.first().and_then(|grant| grant.key.owner.as_deref())
    }

    /// Whether one of the rules that let it in demands a code. Then it comes in with one only: which rule decides is known
    /// when it names a container.
    #[must_use]
    pub fn owes_code(&self) -> bool {
        self.grants.iter().any(|grant| grant.rule.require_code)
    }

    /// The same without what it has by a code only.
    pub fn without_code(mut self) -> Result<Self, Denial> {
        self.grants.retain(|grant| !grant.rule.require_code);
        if self.grants.is_empty() { Err(Denial::Code) } else { Ok(self) }
    }

    /// Whether it has what allowed this access.
    #[must_use]
    pub fn still_has(&self, access: &Access) -> bool {
        self.grants.iter().any(|grant| grant.says_the_same(&access.grant))
    }

    /// Whether it may enter a container at all: the others do not exist for it.
    #[must_use]
    pub fn may_enter(&self, container: &ListedContainer) -> bool {
        login::is_enabled(container) && self.grants.iter().any(|grant| grant.allows(container))
    }

    /// What it may ask the gateway itself.
    pub fn inquirer(&self) -> Result<Inquirer<'_>, Denial> {
        let grants: Vec<_> = self.grants.iter().filter(|grant| grant.inquires()).collect();
        if grants.is_empty() { Err(Denial::Inquiry) } else { Ok(Inquirer { grants }) }
    }

    /// Whether it may go on to a host behind the gateway, by the first line that allows it. The rules say nothing about
    /// it: behind the gateway the client proves a key again, and is asked what it may do there.
    pub fn may_go_on(&self, to: &Place, now: Timestamp) -> Result<(), Denial> {
        let mut denial = Denial::Forwarding;
        for grant in &self.grants {
            match grant.check(now).and_then(|()| grant.key_connects(to)) {
                Ok(()) => return Ok(()),
                Err(reason) => denial = reason,
            }
        }
        Err(denial)
    }

    /// Whether one command may run in all of these, as this user: each of them must be one of a rule that says so. What
    /// runs in some of them only is what nobody has asked for.
    #[must_use]
    pub fn may_fan_out(
        &self,
        containers: &[ListedContainer],
        user: Option<&UserName>,
        now: Timestamp,
    ) -> bool {
        let may = |container: &ListedContainer| {
            self.access(container, user, now).is_ok_and(|access| access.may_fan_out())
        };
        !containers.is_empty() && containers.iter().all(may)
    }

    /// What it may do in this container, as this user, by the first grant that allows both.
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
        for grant in self.grants.iter().filter(|grant| grant.allows(container)) {
            match grant.user(user).and_then(|user| grant.check(now).map(|()| user)) {
                Ok(user) => return Ok(Access { grant: grant.clone(), user }),
                Err(reason) => denial = reason,
            }
        }
        Err(denial)
    }
}

/// Those grants of an identity by which the gateway itself answers it.
#[derive(Debug)]
pub struct Inquirer<'a> {
    /// Never empty.
    grants: Vec<&'a Grant>,
}

impl Inquirer<'_> {
    /// Whether it is told of a container.
    #[must_use]
    pub fn sees(&self, container: &ListedContainer) -> bool {
        login::is_enabled(container) && self.grants.iter().any(|grant| grant.allows(container))
    }

    /// A terminal for the answer.
    pub fn terminal(&self) -> Result<(), Denial> {
        let mut denial = Denial::Terminal;
        for grant in &self.grants {
            match grant.has_terminal() {
                Ok(()) => return Ok(()),
                Err(reason) => denial = reason,
            }
        }
        Err(denial)
    }

    /// The name of the first rule by which it is answered.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.grants.first().map_or("", |grant| &grant.rule.name)
    }

    /// What it may be told that cannot be recorded: what the strictest of the rules says, where one without a word stands
    /// for `otherwise`.
    #[must_use]
    pub fn unrecorded(&self, otherwise: Unrecorded) -> Unrecorded {
        let allows =
            |grant: &&Grant| grant.rule.unrecorded.unwrap_or(otherwise) == Unrecorded::Allow;
        if self.grants.iter().all(allows) { Unrecorded::Allow } else { Unrecorded::Refuse }
    }
}

/// What a client may do in one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    grant: Grant,
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
        &self.grant.key
    }

    /// The rule that allows it.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.grant.rule
    }

    /// As whom: `NAME`, `UID` or `UID:GID`; the container's own user when `None`.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(UserName::as_str)
    }

    /// Fails from the moment on that the key or the rule has expired, and outside its hours: asked again for every
    /// session and forward.
    pub fn check(&self, now: Timestamp) -> Result<(), Denial> {
        self.grant.check(now)
    }

    /// A terminal.
    pub fn terminal(&self) -> Result<(), Denial> {
        self.grant.has_terminal()
    }

    /// An agent.
    #[must_use]
    pub fn may_forward_agent(&self) -> bool {
        self.grant.key.options.agent_forwarding && self.grant.rule.allow.agent
    }

    /// A command in this container among others.
    #[must_use]
    pub fn may_fan_out(&self) -> bool {
        self.grant.rule.fan_out
    }

    /// How long a terminal waits for a client that has lost it.
    #[must_use]
    pub fn linger(&self) -> Option<Duration> {
        self.grant.rule.linger
    }

    /// Whether who has this may go on with what was begun by `other`: the same rule lets in the same key of the same
    /// identity, as the same user. What its line allows is asked beside that.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        let (its, others) = (&self.grant, &other.grant);
        self.user == other.user
            && (&its.key.owner, &its.key.fingerprint)
                == (&others.key.owner, &others.key.fingerprint)
            && its.rule.says_the_same(&others.rule)
    }

    /// What is run when the client asks for `asked`: a forced command takes the place of everything, SFTP too. That of
    /// the line must be one that the rule allows.
    pub fn program(&self, asked: Program) -> Result<Chosen, Denial> {
        let Grant { key, rule } = &self.grant;
        let program = match (&key.options.command, &rule.command) {
            (None, None) => {
                return Ok(Chosen { program: rule.program(asked)?, original: None });
            }
            (Some(of_key), Some(of_rule)) if of_key != of_rule => return Err(Denial::Commands),
            (_, Some(of_rule)) => of_rule.clone(),
            (Some(of_key), None) => rule.program(of_key.clone())?,
        };
        let original = match asked {
            Program::Command(command) => Some(command),
            Program::Words(words) => Some(words.join(&b' ')),
            Program::Sftp | Program::SftpReadOnly => Some(INTERNAL_SFTP.as_bytes().to_vec()),
            Program::Shell | Program::Portal => None,
        };
        Ok(Chosen { program, original })
    }

    /// The session's variables: those of the client whose names `accepted` allows, then those of the key, which win.
    #[must_use]
    pub fn environment(&self, accepted: &[String], asked: &[(String, Opaque)]) -> Vec<Opaque> {
        let mut variables = variables::client_environment(accepted, asked);
        for (name, value) in &self.grant.key.options.environment {
            variables::set(&mut variables, name, value.as_bytes());
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
        self.grant.key_connects(to)?;
        self.grant.rule.connect(to)
    }

    /// A forward that listens there.
    pub fn listen(&self, at: &Place) -> Result<(), Denial> {
        self.grant.key_listens(at)?;
        self.grant.rule.listen(at)
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
