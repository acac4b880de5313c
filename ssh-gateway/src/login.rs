//! Login names: which container, and as whom. A name is read once, after authentication, and means one container or
//! nothing at all.
//!
//! ```text
//! web                  container of this name, or service of Compose, or how an id begins (12 digits or more)
//! shop~web  shop~web~2 service of a Compose project, with the number of its container
//! tier=db,env=prod     labels, all of them
//! …+www-data  …+33  …+33.33   as this user of the container; UID.GID for a group too
//! _                    no container: the gateway itself
//! ```
//!
//! Hosts behind the gateway (`ssh -J`) are the same without a user, and may end with `.chores`.
//!
//! No `:`, `/`, `%` or `@` can be in it: scp, rsync and ssh_config(5) have other plans with them.

use std::collections::BTreeMap;
use std::fmt;

use chores_common::engine::{ContainerState, ListedContainer};

use crate::wire::net::LoginName;

#[cfg(test)]
mod tests;

/// The login name of who means the gateway itself: the names of containers begin with letters and digits.
pub const GATEWAY: &str = "_";

/// How hosts behind the gateway may end: what is before it is the container.
pub const HOST_SUFFIX: &str = ".chores";

/// What a host behind the gateway means: a container, with or without [`HOST_SUFFIX`] behind it. One whose own name ends so
/// needs it twice.
#[must_use]
pub fn host_container(host: &str) -> &str {
    host.strip_suffix(HOST_SUFFIX).unwrap_or(host)
}

/// Longest login name, in bytes.
pub const LOGIN_BYTES_MAX: usize = 512;

/// Longest name of a user, in bytes.
const USER_BYTES_MAX: usize = 64;

/// Largest number of a user or group: what engines accept.
const ID_MAX: u32 = i32::MAX as u32;

/// Labels of one login name.
const LABELS_MAX: usize = 16;

/// Digits of a whole container id.
const ID_DIGITS: usize = 64;

/// Fewest digits of the beginning of an id.
const ID_PREFIX_DIGITS_MIN: usize = 12;

/// The label by which a container is left out.
pub const ENABLE_LABEL: &str = "chores.ssh.enable";

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";

/// A login name, made sense of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Which container.
    pub selector: Selector,
    /// As whom; `None` is the container's own user, or what the key says.
    pub user: Option<UserName>,
}

/// Which container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By its name, its service, or how its id begins.
    Name(String),
    /// By its place in a Compose project.
    Compose {
        /// The project.
        project: String,
        /// The service.
        service: String,
        /// The number of its container; any when absent.
        number: Option<u32>,
    },
    /// By labels, all of which it must have.
    Labels(BTreeMap<String, String>),
}

/// A user of a container: a name, a number, or two numbers, for the user and the group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// Why a text is no login name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is empty, or nothing is before the `+`.
    #[error("the login name names no container: give for example web, shop~web~2 or tier=db")]
    NoContainer,
    /// It is too long.
    #[error("the login name is longer than {LOGIN_BYTES_MAX} bytes")]
    TooLong,
    /// A character that cannot be in it.
    #[error("{} cannot be in a login name", shown_character(*.0))]
    Character(char),
    /// More than one `+`.
    #[error("there is more than one + in the login name: what is behind it is the user")]
    Pluses,
    /// No user.
    #[error("{} is no user: give a name, a number, or UID.GID", shown(.0))]
    User(String),
    /// No container's name.
    #[error("{} is no name of a container", shown(.0))]
    Name(String),
    /// Not `project~service~number`.
    #[error("{} is no project~service or project~service~number", shown(.0))]
    Compose(String),
    /// Not `key=value,key=value`.
    #[error("{} is no list of up to {LABELS_MAX} different labels key=value", shown(.0))]
    Labels(String),
}

impl Login {
    /// Reads a login name.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        if text.len() > LOGIN_BYTES_MAX {
            return Err(LoginError::TooLong);
        }
        if let Some(character) = text.chars().find(|character| is_forbidden(*character)) {
            return Err(LoginError::Character(character));
        }
        let (selector, user) = match text.split_once('+') {
            None => (text, None),
            Some((_, user)) if user.contains('+') => return Err(LoginError::Pluses),
            Some((selector, user)) => (selector, Some(user.parse()?)),
        };
        Ok(Self { selector: selector.parse()?, user })
    }

    /// What a client has signed: with `ssh -J gateway USER@HOST` the host is the container.
    pub fn of(name: &LoginName) -> Result<Self, LoginError> {
        let Some(host) = &name.host else { return Self::parse(&name.user) };
        let container = Self::parse(host)?;
        match container.user {
            Some(_) => Err(LoginError::Pluses),
            None => Ok(Self { user: Some(name.user.parse()?), ..container }),
        }
    }
}

impl std::str::FromStr for Selector {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(LoginError::NoContainer);
        }
        if text.contains('=') {
            return labels(text).ok_or_else(|| LoginError::Labels(text.to_owned()));
        }
        if text.contains('~') {
            return compose(text).ok_or_else(|| LoginError::Compose(text.to_owned()));
        }
        if is_name(text) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(LoginError::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Compose { project, service, number } => {
                write!(f, "{project}~{service}")?;
                number.map_or(Ok(()), |number| write!(f, "~{number}"))
            }
            Self::Labels(labels) => {
                for (at, (key, value)) in labels.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{key}={value}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.selector)?;
        self.user.as_ref().map_or(Ok(()), |user| write!(f, "+{}", user.0.replace(':', ".")))
    }
}

impl UserName {
    /// `NAME`, `UID` or `UID:GID`, as [`crate::wire::task::User`] wants it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for UserName {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || LoginError::User(text.to_owned());
        // A number is never a name here: `useradd` makes no such names, and there is no doubt left.
        let is_numeric =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() || text.len() > USER_BYTES_MAX {
            return Err(wrong());
        }
        if is_numeric(text) {
            let (uid, gid) = match text.split_once('.') {
                Some((uid, gid)) => (number(uid), Some(number(gid).ok_or_else(wrong)?)),
                None => (number(text), None),
            };
            let uid = uid.ok_or_else(wrong)?;
            return Ok(Self(gid.map_or_else(|| uid.to_string(), |gid| format!("{uid}:{gid}"))));
        }
        let body = text.strip_suffix('$').unwrap_or(text);
        let begins = body.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if begins && body.bytes().all(is_plain) { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

/// A number without a sign or a zero in front.
fn number(text: &str) -> Option<u32> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| is_plain && *number <= ID_MAX)
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`, as engines name containers.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(is_plain)
}

fn compose(text: &str) -> Option<Selector> {
    let mut parts = text.split('~');
    let (project, service) = (parts.next()?, parts.next()?);
    let number = match (parts.next(), parts.next()) {
        (None, _) => None,
        (Some(text), None) => Some(number(text)?),
        _ => return None,
    };
    let is_part = |part: &str| {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !part.is_empty() && part.bytes().all(is_plain)
    };
    (is_part(project) && is_part(service)).then(|| Selector::Compose {
        project: project.to_owned(),
        service: service.to_owned(),
        number,
    })
}

fn labels(text: &str) -> Option<Selector> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=')?;
        if key.is_empty() || labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    (labels.len() <= LABELS_MAX).then_some(Selector::Labels(labels))
}

fn is_forbidden(character: char) -> bool {
    matches!(character, ':' | '/' | '%' | '@' | '\\' | ' ') || is_hostile(character)
}

/// What a login name means among containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// This container; it runs, but may be paused.
    One(&'a ListedContainer),
    /// Each of these; they run. By name.
    Many(Vec<&'a ListedContainer>),
    /// A service of this name is in more than one project; these are its containers, whether they run or not. By
    /// name. Which project is meant must not depend on which of them runs.
    Projects(Vec<&'a ListedContainer>),
    /// These, and none of them runs. By name.
    Stopped(Vec<&'a ListedContainer>),
    /// None; these names are similar, the best first.
    None(Vec<&'a str>),
}

/// Similar names that are told.
const SIMILAR_MAX: usize = 3;

/// Names that are told when a login name means more than one container.
const NAMES_MAX: usize = 20;

/// Whether a container may be entered at all.
#[must_use]
pub fn is_enabled(container: &ListedContainer) -> bool {
    // Whatever else stands there is no permission.
    container.labels.get(ENABLE_LABEL).is_none_or(|value| value == "true")
}

/// Finds what `selector` means among `containers`, of which the caller has left out those that nobody asks about or
/// this client may not enter. A name is first that of a container or a whole id, then that of a service, then the
/// beginning of an id: the first that means something decides, even if what it means does not run.
#[must_use]
pub fn resolve<'a>(selector: &Selector, containers: &'a [ListedContainer]) -> Resolution<'a> {
    let all: Vec<_> = containers.iter().filter(|container| is_enabled(container)).collect();
    let matching = |is_match: &dyn Fn(&ListedContainer) -> bool| -> Vec<&'a ListedContainer> {
        all.iter().copied().filter(|container| is_match(container)).collect()
    };
    let found = match selector {
        Selector::Name(name) => {
            let exact = matching(&|container| container.id == *name);
            let exact = non_empty(exact).or_else(|| non_empty(matching(&|one| one.name == *name)));
            let service = || non_empty(matching(&|one| is_service(one, None, name)));
            let prefix = || {
                let is_prefix = (ID_PREFIX_DIGITS_MIN..ID_DIGITS).contains(&name.len());
                let is_prefix = is_prefix && name.bytes().all(is_id_digit);
                non_empty(matching(&|one| is_prefix && one.id.starts_with(name.as_str())))
            };
            exact.or_else(service).or_else(prefix)
        }
        Selector::Compose { project, service, number } => {
            let number = number.map(|number| number.to_string());
            non_empty(matching(&|one| {
                let its = one.labels.get(COMPOSE_NUMBER);
                is_service(one, Some(project), service)
                    && number.as_ref().is_none_or(|number| its == Some(number))
            }))
        }
        Selector::Labels(labels) => non_empty(matching(&|one| {
            labels.iter().all(|(key, value)| one.labels.get(key) == Some(value))
        })),
    };
    let Some(found) = found else { return Resolution::None(similar(selector, &all)) };
    let is_by_service = |one: &&ListedContainer| match selector {
        Selector::Name(name) => one.name != *name && is_service(one, None, name),
        Selector::Compose { .. } | Selector::Labels(_) => false,
    };
    if found.iter().all(is_by_service) {
        let project = |one: &&'a ListedContainer| one.labels.get(COMPOSE_PROJECT);
        if found.windows(2).any(|pair| pair.first().map(project) != pair.get(1).map(project)) {
            return Resolution::Projects(by_name(found));
        }
    }
    let running = found.iter().copied().filter(|one| one.state != ContainerState::NotRunning);
    match *by_name(running.collect()) {
        [] => Resolution::Stopped(by_name(found)),
        [one] => Resolution::One(one),
        ref many => Resolution::Many(many.to_vec()),
    }
}

fn non_empty<T>(found: Vec<T>) -> Option<Vec<T>> {
    (!found.is_empty()).then_some(found)
}

fn by_name(mut found: Vec<&ListedContainer>) -> Vec<&ListedContainer> {
    found.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
    found
}

fn is_id_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The Compose project that a container belongs to.
#[must_use]
pub fn compose_project(container: &ListedContainer) -> Option<&str> {
    container.labels.get(COMPOSE_PROJECT).map(String::as_str)
}

/// The Compose service that a container belongs to, if it was not started by `compose run`.
#[must_use]
pub fn compose_service(container: &ListedContainer) -> Option<&str> {
    let label = |name| container.labels.get(name);
    let is_one_off = label(COMPOSE_ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    label(COMPOSE_SERVICE).map(String::as_str).filter(|_| !is_one_off)
}

/// The labels by which Compose marks the first container of a service.
#[must_use]
pub fn compose_labels(project: &str, service: &str) -> [(String, String); 3] {
    [(COMPOSE_PROJECT, project), (COMPOSE_SERVICE, service), (COMPOSE_NUMBER, "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn is_service(container: &ListedContainer, project: Option<&String>, service: &str) -> bool {
    compose_service(container) == Some(service)
        && project.is_none_or(|project| compose_project(container) == Some(project))
}

/// Names that a mistyped one may have been.
fn similar<'a>(selector: &Selector, containers: &[&'a ListedContainer]) -> Vec<&'a str> {
    let Selector::Name(wanted) = selector else { return Vec::new() };
    let names = containers.iter().flat_map(|one| {
        let service = one.labels.get(COMPOSE_SERVICE).map(String::as_str);
        std::iter::once(one.name.as_str()).chain(service)
    });
    // A third of the letters may be wrong, and never more than two.
    let allowed = (wanted.chars().count() / 3).clamp(1, 2);
    let mut near: Vec<_> = names
        .filter(|name| name.len().abs_diff(wanted.len()) <= 2 * allowed && is_name(name))
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().map(|(_, name)| name).take(SIMILAR_MAX).collect()
}

/// Longest name whose distance is measured, in bytes: the work grows with its square.
const DISTANCE_BYTES_MAX: usize = 128;

/// Letters to change, to add or to take away (Levenshtein), without regard to case.
fn distance(left: &str, right: &str) -> usize {
    if left.len().max(right.len()) > DISTANCE_BYTES_MAX {
        return usize::MAX;
    }
    let right: Vec<u8> = right.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, byte) in left.bytes().map(|byte| byte.to_ascii_lowercase()).enumerate() {
        let mut next = vec![at + 1];
        for ((other, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let before = next.last().copied().unwrap_or_default();
            let change = diagonal + usize::from(byte != *other);
            next.push(change.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// One sentence for the client about a login name that means no one container; `None` if it does.
#[must_use]
pub fn explain(selector: &Selector, resolution: &Resolution<'_>) -> Option<String> {
    explain_within(selector, resolution, " that this key may enter")
}

/// The same for who operates the gateway, and asks about all containers.
#[must_use]
pub fn explain_to_operator(selector: &Selector, resolution: &Resolution<'_>) -> Option<String> {
    explain_within(selector, resolution, "")
}

/// The same; `bounds` says of which containers those are that could be meant.
fn explain_within(
    selector: &Selector,
    resolution: &Resolution<'_>,
    bounds: &str,
) -> Option<String> {
    let selector = shown(&selector.to_string());
    Some(match resolution {
        Resolution::One(_) => return None,
        Resolution::Many(many) => {
            format!("{selector} means {} containers: {}", many.len(), names(many))
        }
        Resolution::Projects(found) => {
            let mut places: Vec<String> = found
                .iter()
                .map(|one| {
                    let label = |name| one.labels.get(name).map_or("", String::as_str);
                    shown(&format!("{}~{}", label(COMPOSE_PROJECT), label(COMPOSE_SERVICE)))
                })
                .collect();
            places.sort_unstable();
            places.dedup();
            let more = places.len().saturating_sub(NAMES_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            places.truncate(NAMES_MAX);
            format!("{selector} is a service of more than one project: {}{more}", places.join(", "))
        }
        Resolution::Stopped(stopped) => match stopped.as_slice() {
            [one] => format!("the container {} is not running", shown(&one.name)),
            many => format!("{selector} means {}, and none of them is running", names(many)),
        },
        Resolution::None(similar) => match similar.as_slice() {
            [] => format!("there is no container {selector}{bounds}"),
            similar => {
                let names: Vec<_> = similar.iter().map(|name| shown(name)).collect();
                let names = names.join(" or ");
                format!("there is no container {selector}{bounds}; did you mean {names}?")
            }
        },
    })
}

/// Names of containers in one line.
fn names(containers: &[&ListedContainer]) -> String {
    let names: Vec<_> = containers.iter().take(NAMES_MAX).map(|one| shown(&one.name)).collect();
    let more = containers.len().saturating_sub(NAMES_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", names.join(", "))
}

/// Characters of a foreign text that are shown.
const SHOWN_CHARACTERS_MAX: usize = 128;

/// Characters of a sentence of our own that are shown.
const TOLD_CHARACTERS_MAX: usize = 1024;

/// A text of a container, a label or a client as it may be shown on a terminal: without control characters, and
/// without what changes the direction of writing or cannot be seen.
#[must_use]
pub fn shown(text: &str) -> String {
    shown_up_to(text, SHOWN_CHARACTERS_MAX)
}

/// A sentence of our own, as the same; what is foreign in it was bounded when it was put in, and the advice is at its end.
#[must_use]
pub fn told(sentence: &str) -> String {
    shown_up_to(sentence, TOLD_CHARACTERS_MAX)
}

fn shown_up_to(text: &str, most: usize) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters
        .by_ref()
        .take(most)
        .map(|character| if is_hostile(character) { '\u{fffd}' } else { character })
        .collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn shown_character(character: char) -> String {
    if is_hostile(character) {
        return format!("the character U+{:04X}", u32::from(character));
    }
    format!("{character:?}")
}

/// Characters that can deceive: C0, C1, line and paragraph separators, signs of direction, those without a width,
/// tags and variation selectors (Unicode TR 36).
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
