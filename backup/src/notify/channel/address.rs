//! A URL as an address of a known kind of server. Faults name the key and never the URL.

use std::net::Ipv6Addr;

use chores_common::percent;
use chores_common::secret::Secret;
use chores_common::settings::one_of;
use lettre::Address;

#[cfg(test)]
mod tests;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 4096;

/// Longest name of a host, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Longest name of a person, in characters.
const PERSON_CHARS_MAX: usize = 100;

/// Every kind of server.
const KINDS: [&str; 5] = ["webhook", "ntfy", "slack", "gotify", "smtp"];

const FORMS: &str = "https://… (webhook), slack://host/services/…, ntfy://host/topic, gotify://TOKEN@host, \
     smtp://host:587 (STARTTLS), smtps://host:465 or smtp+plain://host:25";

/// What was written of a place.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) kind: Option<String>,
    pub(super) url: Secret,
    pub(super) token: Option<Secret>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) from: Option<Mailbox>,
    pub(super) to: Vec<Mailbox>,
    pub(super) headers: Vec<(String, Secret)>,
}

/// A server, and how it is spoken to.
#[derive(Debug, Clone)]
pub(in crate::notify) enum Target {
    /// Takes our own JSON.
    Webhook { shown: String, url: Secret, token: Option<Secret>, headers: Vec<(String, Secret)> },
    /// An incoming webhook of Slack or of who speaks like it.
    Slack { shown: String, url: Secret },
    /// ntfy, whose topics are as good as passwords.
    Ntfy { shown: String, url: Secret, topic: Secret, token: Option<Secret> },
    /// Gotify.
    Gotify { shown: String, url: Secret, token: Secret },
    /// A mail server.
    Smtp(MailSettings),
}

/// How a mail gets away.
#[derive(Debug, Clone)]
pub(in crate::notify) struct MailSettings {
    pub(in crate::notify) host: String,
    pub(in crate::notify) port: u16,
    pub(in crate::notify) security: Security,
    /// User and password.
    pub(in crate::notify) login: Option<(String, Secret)>,
    pub(in crate::notify) from: Mailbox,
    pub(in crate::notify) to: Vec<Mailbox>,
}

/// Who can read what is said to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::notify) enum Security {
    /// Everybody on the way.
    None,
    /// Nobody, after the server was asked for it; a server that cannot is not spoken to.
    StartTls,
    /// Nobody, from the first byte on.
    Tls,
}

/// A person or program that mail is for or from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::notify) struct Mailbox {
    /// What people read.
    pub(in crate::notify) name: Option<String>,
    /// Where it goes.
    pub(in crate::notify) address: Address,
}

impl Mailbox {
    /// `a@b` or `Name <a@b>`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            None => (None, text),
            Some((name, address)) => (Some(name.trim().trim_matches('"').to_owned()), address),
        };
        let name = name.filter(|name| !name.is_empty());
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        let parsed: Option<Address> = address.parse().ok();
        let parsed = parsed.filter(|_| address.is_ascii() && is_plain(text));
        let parsed = parsed
            .filter(|_| name.as_ref().is_none_or(|name| name.chars().count() <= PERSON_CHARS_MAX));
        let no = || format!("`{}` is no mail address such as a@example.org", text.escape_debug());
        Ok(Self { name, address: parsed.ok_or_else(no)? })
    }
}

impl Target {
    /// The server that is meant; a fault is a key and a sentence.
    pub(super) fn of(wanted: Wanted) -> Result<Self, (&'static str, String)> {
        let no_url = || ("url", format!("it is no URL for notices: write {FORMS}"));
        let place = Place::parse(wanted.url.expose()).ok_or_else(no_url)?;
        let kind = match (&wanted.kind, place.scheme.as_str()) {
            (Some(kind), _) => KINDS
                .into_iter()
                .find(|known| known == kind)
                .ok_or_else(|| ("type", one_of(kind, &KINDS)))?,
            (None, "http" | "https") => "webhook",
            (None, "slack" | "slack+http") => "slack",
            (None, "ntfy" | "ntfy+http") => "ntfy",
            (None, "gotify" | "gotify+http") => "gotify",
            (None, "smtp" | "smtps" | "smtp+plain") => "smtp",
            (None, _) => return Err(no_url()),
        };
        let web = match place.scheme.as_str() {
            "https" => Some("https"),
            "http" => Some("http"),
            scheme if scheme == kind => Some("https"),
            scheme if scheme.strip_suffix("+http") == Some(kind) => Some("http"),
            _ => None,
        };
        let given = [
            ("token", wanted.token.is_some(), kind == "smtp" || kind == "slack"),
            ("user", wanted.user.is_some(), kind != "smtp"),
            ("password", wanted.password.is_some(), kind != "smtp"),
            ("from", wanted.from.is_some(), kind != "smtp"),
            ("to", !wanted.to.is_empty(), kind != "smtp"),
            ("headers", !wanted.headers.is_empty(), kind != "webhook"),
        ];
        if let Some((key, ..)) =
            given.into_iter().find(|(_, is_given, is_wrong)| *is_given && *is_wrong)
        {
            return Err((key, format!("a channel of the type {kind} has none")));
        }
        if kind == "smtp" {
            return mail(&place, wanted).map(Self::Smtp);
        }
        let scheme =
            web.ok_or_else(|| ("url", format!("it is no URL of the type {kind}: write {FORMS}")))?;
        let shown = format!("{scheme}://{}", place.authority);
        let in_url = place.user.map(|user| {
            percent::decoded(&user)
                .map(Secret::new)
                .ok_or_else(|| ("url", "it has a broken %-escape".to_owned()))
        });
        let in_url = in_url.transpose()?;
        if in_url.is_some() && (wanted.token.is_some() || matches!(kind, "webhook" | "slack")) {
            return Err((
                "url",
                "it has a user or token before the `@`: use token or token_file, one of them"
                    .to_owned(),
            ));
        }
        let token = wanted.token.or(in_url);
        if token
            .as_ref()
            .is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(("token", "it has characters that no token has".to_owned()));
        }
        let rest = place.rest.as_str();
        let url = Secret::new(format!("{shown}{rest}"));
        match kind {
            "webhook" => Ok(Self::Webhook { shown, url, token, headers: wanted.headers }),
            "slack" => Ok(Self::Slack { shown, url }),
            "ntfy" => {
                let (base, topic) = rest.trim_end_matches('/').rsplit_once('/').unwrap_or(("", ""));
                if topic.is_empty() || topic.contains('?') {
                    return Err(("url", "it has no topic: write ntfy://host/topic".to_owned()));
                }
                let url = Secret::new(format!("{shown}{base}/"));
                Ok(Self::Ntfy { shown, url, topic: Secret::new(topic.to_owned()), token })
            }
            _ => {
                let missing =
                    || ("token", "it is missing: an application's token of Gotify".to_owned());
                let token = token.ok_or_else(missing)?;
                if rest.contains('?') {
                    return Err(("url", "it has a query: give the token as token_file".to_owned()));
                }
                let url = Secret::new(format!("{shown}{}/message", rest.trim_end_matches('/')));
                Ok(Self::Gotify { shown, url, token })
            }
        }
    }

    /// The kind of server, as settings name it.
    pub(in crate::notify) fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Ntfy { .. } => "ntfy",
            Self::Gotify { .. } => "gotify",
            Self::Smtp(_) => "smtp",
        }
    }

    /// What may be shown of where it is.
    pub(in crate::notify) fn shown(&self) -> String {
        match self {
            Self::Webhook { shown, .. }
            | Self::Slack { shown, .. }
            | Self::Ntfy { shown, .. }
            | Self::Gotify { shown, .. } => shown.clone(),
            Self::Smtp(mail) => mail.shown(),
        }
    }
}

impl MailSettings {
    /// Where it is.
    pub(in crate::notify) fn shown(&self) -> String {
        let scheme = match self.security {
            Security::None => "smtp+plain",
            Security::StartTls => "smtp",
            Security::Tls => "smtps",
        };
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}

/// `smtp://USER:PASSWORD@host:587?from=…&to=…&to=…`; what is in the URL need not be given beside it.
fn mail(place: &Place, wanted: Wanted) -> Result<MailSettings, (&'static str, String)> {
    let (security, usual_port) = match place.scheme.as_str() {
        "smtp" => (Security::StartTls, 587),
        "smtps" => (Security::Tls, 465),
        "smtp+plain" => (Security::None, 25),
        _ => {
            return Err((
                "url",
                "it must begin with smtp:// (STARTTLS), smtps:// or smtp+plain://".to_owned(),
            ));
        }
    };
    let broken = || ("url", "it has a broken %-escape".to_owned());
    let (path, query) = place.rest.split_once('?').unwrap_or((&place.rest, ""));
    if !matches!(path, "" | "/") {
        return Err(("url", "it has a path, which no mail server has".to_owned()));
    }
    let (mut from, mut to) = (wanted.from, wanted.to);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent::decoded(value).ok_or_else(broken)?;
        let mailbox = || Mailbox::parse(&value).map_err(|text| ("url", text));
        match key {
            "from" if from.is_none() => from = Some(mailbox()?),
            "to" => to.push(mailbox()?),
            _ => {
                return Err((
                    "url",
                    "its query may have one `from` and some `to`, and nothing else".to_owned(),
                ));
            }
        }
    }
    let in_url = match &place.user {
        None => None,
        Some(text) => {
            let (user, password) = text.split_once(':').ok_or_else(|| {
                (
                    "url",
                    "it has a user without a password: give user and password_file instead"
                        .to_owned(),
                )
            })?;
            let user = percent::decoded(user).ok_or_else(broken)?;
            Some((user, Secret::new(percent::decoded(password).ok_or_else(broken)?)))
        }
    };
    let login = match (wanted.user, wanted.password, in_url) {
        (None, None, login) => login,
        (Some(user), Some(password), None) => Some((user, password)),
        (_, _, Some(_)) => {
            return Err((
                "url",
                "user or password are given in it and beside it: keep one".to_owned(),
            ));
        }
        (Some(_), None, None) => {
            return Err((
                "password",
                "it is missing: user and password belong together".to_owned(),
            ));
        }
        (None, Some(_), None) => {
            return Err(("user", "it is missing: user and password belong together".to_owned()));
        }
    };
    let from = from.ok_or_else(|| ("from", "it is missing: who the mail is from".to_owned()))?;
    if to.is_empty() {
        return Err(("to", "it is missing: who the mail is for".to_owned()));
    }
    Ok(MailSettings {
        host: place.host.clone(),
        port: place.port.unwrap_or(usual_port),
        security,
        login,
        from,
        to,
    })
}

/// A URL in its parts.
struct Place {
    scheme: String,
    /// What stands before the `@`, as written.
    user: Option<String>,
    /// Without brackets.
    host: String,
    port: Option<u16>,
    /// Host and port as written.
    authority: String,
    /// Path and query.
    rest: String,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        if text.len() > URL_BYTES_MAX
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
            || text.contains('#')
        {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let (user, authority) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, authority)) => (Some(user.to_owned()), authority),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(inside) => {
                let (host, port) = inside.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = authority.starts_with('[') || host.bytes().all(is_host);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_name {
            return None;
        }
        let port = match port {
            None => None,
            Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
        };
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            rest: rest.to_owned(),
        })
    }
}
