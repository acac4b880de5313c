//! Where notices go: what an operator wrote, checked once. URLs hold tokens, so all of a URL but its host is a secret.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use chores_common::config::{ConfigError, secret_from};
use chores_common::secret::Secret;
use chores_common::settings::{Item, Table};
use chores_common::template::{Template, TemplateError};
use chores_common::tls::TlsSettings;

use super::event::Kind;
use super::message::{self, Placeholder};

pub mod address;

use address::{Mailbox, Security, Target, Wanted};

#[cfg(test)]
mod tests;

/// Channels of one process.
pub const CHANNELS_MAX: usize = 16;

/// Longest name of a channel, in bytes: it is the name of a file too.
const NAME_BYTES_MAX: usize = 40;

/// Recipients of one mail.
const RECIPIENTS_MAX: usize = 20;

/// Headers of one webhook.
const HEADERS_MAX: usize = 20;

/// Headers that are ours to set.
const OUR_HEADERS: [&str; 6] =
    ["authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];

/// Title unless set.
const TITLE: &str = "{what}: {job} on {host}";

/// Body unless set.
const BODY: &str = "{text}\n{details}";

/// A channel that cannot be used as it is written.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Something in it.
    #[error("the channel {name} of BACKUP_NOTIFY_URL is unusable: {fault}")]
    Unusable {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        fault: String,
    },
    /// Two have one name.
    #[error("two channels for notices are called {0}: give each its own `name`")]
    Twice(String),
    /// More than can be served.
    #[error("there are {0} channels for notices, at most {CHANNELS_MAX} can be served")]
    TooMany(usize),
    /// The variable cannot be used.
    #[error(transparent)]
    Secret(#[from] ConfigError),
}

/// One place where notices go.
#[derive(Debug, Clone)]
pub struct Channel {
    /// As the operator calls it; its queue has this name.
    pub name: String,
    /// Where, and how it is spoken to.
    pub(super) target: Target,
    /// What is told there.
    pub(super) kinds: BTreeSet<Kind>,
    /// The first line.
    pub(super) title: Template<Placeholder>,
    /// The others.
    pub(super) body: Template<Placeholder>,
    /// For servers with TLS.
    pub(super) tls: TlsSettings,
}

impl Channel {
    /// Whether such an event is told there.
    #[must_use]
    pub fn wants(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

impl fmt::Display for Channel {
    /// What may be shown of it: `slack at https://hooks.slack.com`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.target.kind(), self.target.shown())
    }
}

/// Every place where notices go.
#[derive(Debug, Clone, Default)]
pub struct Channels(Vec<Channel>);

impl Channels {
    /// The `[[notify]]` tables of a configuration file. Faults are told to the table.
    #[must_use]
    pub fn read(root: &Table<'_>) -> Self {
        let Some(item) = root.get("notify") else { return Self::default() };
        let mut channels: Vec<Channel> = Vec::new();
        for table in item.tables() {
            if let Some(channel) = read(&table, &channels) {
                channels.push(channel);
            }
        }
        if channels.len() > CHANNELS_MAX {
            item.fault(&format!(
                "there are {}, at most {CHANNELS_MAX} can be served",
                channels.len()
            ));
        }
        Self(channels)
    }

    /// Those of `BACKUP_NOTIFY_URL` or the file that `BACKUP_NOTIFY_URL_FILE` names: URLs, with space or line ends
    /// between them.
    pub fn from_environment(
        value: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Self, ChannelError> {
        let Some(urls) = secret_from("BACKUP_NOTIFY_URL", value, file)? else {
            return Ok(Self::default());
        };
        let mut channels: Vec<Channel> = Vec::new();
        for url in urls.expose().split_whitespace() {
            let written = Written { url: Some(Secret::new(url.to_owned())), ..Written::default() };
            let number = channels.len() + 1;
            let made = channel(written, &channels);
            channels.push(made.map_err(|Fault { fault, .. }| ChannelError::Unusable {
                name: number.to_string(),
                fault,
            })?);
        }
        Self(channels).checked()
    }

    /// These and others, all of them with names of their own.
    pub fn and(mut self, others: Self) -> Result<Self, ChannelError> {
        self.0.extend(others.0);
        self.checked()
    }

    fn checked(self) -> Result<Self, ChannelError> {
        if self.0.len() > CHANNELS_MAX {
            return Err(ChannelError::TooMany(self.0.len()));
        }
        let mut names = BTreeSet::new();
        for channel in &self.0 {
            if !names.insert(&channel.name) {
                return Err(ChannelError::Twice(channel.name.clone()));
            }
        }
        Ok(self)
    }

    /// Whether nobody is told anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter()
    }
}

impl IntoIterator for Channels {
    type Item = Channel;
    type IntoIter = std::vec::IntoIter<Channel>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A channel as it is written, whatever it is written in.
#[derive(Debug, Default)]
struct Written {
    name: Option<String>,
    kind: Option<String>,
    url: Option<Secret>,
    token: Option<Secret>,
    user: Option<String>,
    password: Option<Secret>,
    from: Option<String>,
    to: Vec<String>,
    kinds: Vec<String>,
    title: Option<String>,
    body: Option<String>,
    headers: Vec<(String, Secret)>,
    ca_file: Option<PathBuf>,
}

/// What is wrong with it, and which key is.
struct Fault {
    key: &'static str,
    fault: String,
}

fn fault(key: &'static str, fault: impl Into<String>) -> Fault {
    Fault { key, fault: fault.into() }
}

/// A channel of a file.
fn read(table: &Table<'_>, others: &[Channel]) -> Option<Channel> {
    let text = |key| table.get(key).and_then(|item| item.string());
    let is_broken = Cell::new(false);
    let secret = |key, file_key| {
        secret(table, key, file_key).unwrap_or_else(|Told| {
            is_broken.set(true);
            None
        })
    };
    let written = Written {
        name: text("name"),
        kind: text("type"),
        url: secret("url", "url_file"),
        token: secret("token", "token_file"),
        user: text("user"),
        password: secret("password", "password_file"),
        from: text("from"),
        to: table.get("to").map(|item| item.strings()).unwrap_or_default(),
        kinds: table.get("kinds").map(|item| item.strings()).unwrap_or_default(),
        title: text("title"),
        body: text("body"),
        headers: table.get("headers").map(|item| headers(&item)).unwrap_or_default(),
        ca_file: text("ca_file").map(PathBuf::from),
    };
    table.end();
    if is_broken.get() {
        return None;
    }
    match channel(written, others) {
        Ok(channel) => Some(channel),
        Err(Fault { key, fault }) => {
            match table.get(key) {
                Some(item) => item.fault(&fault),
                None => table.missing(key, &fault),
            }
            None
        }
    }
}

fn headers(item: &Item<'_>) -> Vec<(String, Secret)> {
    let Some(table) = item.table() else { return Vec::new() };
    let read = table.items().filter_map(|(name, item)| {
        item.string().map(|value| (name.to_owned(), Secret::new(value)))
    });
    read.collect()
}

/// A fault that was told to the table.
struct Told;

/// A secret in one of its two forms.
fn secret(
    table: &Table<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Result<Option<Secret>, Told> {
    let (value, file) = (table.get(key), table.get(file_key));
    if let (Some(_), Some(file)) = (&value, &file) {
        file.fault(&format!("{key} and {file_key} are both set; keep one"));
        return Err(Told);
    }
    if let Some(value) = value {
        return value.string().map(|text| Some(Secret::new(text))).ok_or(Told);
    }
    let Some(item) = file else { return Ok(None) };
    let path = PathBuf::from(item.string().ok_or(Told)?);
    secret_from(key, None, Some(path.clone())).map_err(|error| {
        item.fault(&match error {
            ConfigError::Unreadable { source, .. } => {
                format!("cannot read {}: {source}", path.display())
            }
            ConfigError::Unusable { fault, .. } => format!("{} {fault}", path.display()),
            error => error.to_string(),
        });
        Told
    })
}

/// Makes sense of a channel; the others are those before it, whose names are taken.
fn channel(written: Written, others: &[Channel]) -> Result<Channel, Fault> {
    let url = written.url.ok_or_else(|| fault("url", "it is missing: give url or url_file"))?;
    let from = written.from.map(|text| Mailbox::parse(&text)).transpose();
    let to: Result<Vec<_>, _> = written.to.iter().map(|text| Mailbox::parse(text)).collect();
    if written.to.len() > RECIPIENTS_MAX {
        return Err(fault("to", format!("there are more than {RECIPIENTS_MAX}")));
    }
    if written.headers.len() > HEADERS_MAX {
        return Err(fault("headers", format!("there are more than {HEADERS_MAX}")));
    }
    if let Some((name, _)) = written.headers.iter().find(|header| !is_header(header)) {
        let shown = name.escape_debug();
        return Err(fault("headers", format!("`{shown}` is no header that may be set")));
    }
    let wanted = Wanted {
        kind: written.kind,
        url,
        token: written.token,
        user: written.user,
        password: written.password,
        from: from.map_err(|text| fault("from", text))?,
        to: to.map_err(|text| fault("to", text))?,
        headers: written.headers,
    };
    let target = Target::of(wanted).map_err(|(key, text)| fault(key, text))?;
    if let Target::Smtp(mail) = &target
        && mail.login.is_some()
        && mail.security == Security::None
    {
        let text = "smtp+plain:// would send the password for everybody to read: use smtp:// (STARTTLS) or smtps://";
        return Err(fault("password", text));
    }
    let name = match written.name {
        Some(name) if is_name(&name) => name,
        Some(_) => {
            let text = format!(
                "it has other than letters, digits, `-`, `_` and `.`, begins with a `.`, or is longer than {NAME_BYTES_MAX} bytes"
            );
            return Err(fault("name", text));
        }
        None => usual_name(&target, others),
    };
    if others.iter().any(|other| other.name == name) {
        return Err(fault("name", format!("another channel is called {name}: give each its own")));
    }
    let kinds = match written.kinds.as_slice() {
        [] => Kind::ALL.into_iter().collect(),
        names => names.iter().map(|name| kind(name)).collect::<Result<BTreeSet<_>, _>>()?,
    };
    let template = |key: &'static str, text: Option<String>, usual: &str| {
        Template::parse(text.as_deref().unwrap_or(usual), &message::PLACEHOLDERS)
            .map_err(|error: TemplateError| fault(key, error.to_string()))
    };
    Ok(Channel {
        name,
        target,
        kinds,
        title: template("title", written.title, TITLE)?,
        body: template("body", written.body, BODY)?,
        tls: TlsSettings { ca_file: written.ca_file, ..TlsSettings::default() },
    })
}

fn kind(name: &str) -> Result<Kind, Fault> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let names = Kind::ALL.map(Kind::name);
    found.ok_or_else(|| fault("kinds", chores_common::settings::one_of(name, &names)))
}

/// `slack`, and `slack-2` for the second one.
fn usual_name(target: &Target, others: &[Channel]) -> String {
    let kind = target.kind();
    match others.iter().filter(|other| other.target.kind() == kind).count() {
        0 => kind.to_owned(),
        before => format!("{kind}-{}", before + 1),
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_header((name, value): &(String, Secret)) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && value.expose().bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && !OUR_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}
