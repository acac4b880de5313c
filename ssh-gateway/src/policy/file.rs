//! The policy as it is written: TOML with identities, groups and rules. All of it is read, or none of it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chores_common::settings::{self, Fault, FileFaults, Item, Table};
use jiff::Timestamp;

use super::{
    Allow, ComposePattern, Files, Hours, LabelPattern, Places, Policy, Rule, RuleUser, Targets,
    ToolboxUse, Users, Who,
};
use crate::authorized_keys::{
    self, AddressList, AuthorizedKeys, KeysError, ListenPermit, MOMENT_FORMS, OpenPermit,
    PatternList, ReadKey, forced_command, moment,
};
use crate::config::PolicySource;
use crate::revoked::{Revoked, RevokedError};
use crate::totp::{Secret, SecretError};
use crate::trusted_file::{self, TrustedFileError};
use crate::wire::Program;

#[cfg(test)]
mod tests;

/// Most identities, and most groups.
pub const IDENTITIES_MAX: usize = 10_000;

/// Most rules: each is asked at every login.
pub const RULES_MAX: usize = 1_000;

/// Most key files of all identities.
const KEY_FILES_MAX: usize = 1_000;

/// Most users, and most places of one kind, of one rule.
const LIST_MAX: usize = 256;

/// Longest name of an identity, a group or a rule, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Longest command, in bytes.
const COMMAND_BYTES_MAX: usize = 4096;

/// A terminal waits for its client this long at least, and at most.
pub const LINGER_MIN: Duration = Duration::from_secs(1);
/// See [`LINGER_MIN`].
pub const LINGER_MAX: Duration = Duration::from_hours(24);

/// Stands for every identity, user, container or place.
const ALL: &str = "*";

/// Stands for the container's own user: no user has an `@` in its name.
const OWN_USER: &str = "@container";

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// What is revoked cannot be read.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// The file is not believed.
    #[error(transparent)]
    File(#[from] TrustedFileError),
    /// The secret of somebody's codes cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What it says makes no sense.
    #[error(transparent)]
    Faults(#[from] FileFaults),
    /// It could not be told who comes.
    #[error(
        "the key {fingerprint} is {one}'s ({one_at}) and {other}'s ({other_at}): give each identity its own"
    )]
    TwoOwners {
        /// `SHA256:…`.
        fingerprint: String,
        /// The one.
        one: String,
        /// `FILE:LINE`.
        one_at: String,
        /// The other.
        other: String,
        /// `FILE:LINE`.
        other_at: String,
    },
}

/// What `source` says, and the files in which it is said: known even where the policy cannot be used. Blocks.
pub fn load(
    source: &PolicySource,
    revoked: &[PathBuf],
    accepts_variable: &dyn Fn(&str) -> bool,
) -> (Vec<PathBuf>, Result<Policy, PolicyError>) {
    let mut files = source.files();
    let policy = match source {
        PolicySource::Keys(sources) => AuthorizedKeys::load(sources, accepts_variable)
            .map(Policy::of_keys)
            .map_err(PolicyError::from),
        PolicySource::File(path) => of_file(path, accepts_variable, &mut files),
    };
    files.extend_from_slice(revoked);
    let policy = policy.and_then(|policy| {
        let revoked = Revoked::load(revoked)?;
        Ok(Policy { revoked, files: files.clone(), ..policy })
    });
    (files, policy)
}

fn of_file(
    path: &Path,
    accepts_variable: &dyn Fn(&str) -> bool,
    files: &mut Vec<PathBuf>,
) -> Result<Policy, PolicyError> {
    let bytes = trusted_file::read(path)?;
    let faults = |faults| FileFaults { path: path.to_owned(), faults };
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let message = "it is no UTF-8 text".to_owned();
        faults(vec![Fault { place: None, key: String::new(), message }])
    })?;
    let Written { identities, rules } = parse(text, accepts_variable).map_err(faults)?;
    let name = path.display().to_string();
    for file in identities.iter().flat_map(|identity| identity.files.iter().chain(&identity.totp)) {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    let mut keys = AuthorizedKeys::default();
    let mut secrets = BTreeMap::new();
    for identity in identities {
        let owner: Arc<str> = identity.name.into();
        if let Some(path) = &identity.totp {
            secrets.insert(Arc::clone(&owner), Secret::load(path)?);
        }
        for (line, key) in identity.keys {
            keys.push(Some(&owner), &name, line, key)?;
        }
        for file in identity.files {
            keys.add_file(Some(&owner), &file, accepts_variable)?;
        }
    }
    check_owners(&keys)?;
    let rules = rules.into_iter().map(Arc::new).collect();
    Ok(Policy { keys, rules, secrets, ..Policy::default() })
}

fn check_owners(keys: &AuthorizedKeys) -> Result<(), PolicyError> {
    for lines in keys.grouped() {
        let Some(first) = lines.first().filter(|line| !line.options.cert_authority) else {
            // One authority may be many identities', each with its principals.
            continue;
        };
        let Some(other) = lines.iter().find(|other| other.owner != first.owner) else { continue };
        let name = |owner: &Option<Arc<str>>| owner.as_deref().unwrap_or_default().to_owned();
        return Err(PolicyError::TwoOwners {
            fingerprint: first.fingerprint.clone(),
            one: name(&first.owner),
            one_at: format!("{}:{}", first.source, first.line),
            other: name(&other.owner),
            other_at: format!("{}:{}", other.source, other.line),
        });
    }
    Ok(())
}

/// What a policy says, without the files that it names.
#[derive(Debug)]
pub struct Written {
    identities: Vec<WrittenIdentity>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct WrittenIdentity {
    name: String,
    /// With the line that each is in.
    keys: Vec<(usize, ReadKey)>,
    files: Vec<PathBuf>,
    /// The file with the secret of its codes.
    totp: Option<PathBuf>,
}

/// Reads the text of a policy. All of its faults are told.
pub fn parse(text: &str, accepts_variable: &dyn Fn(&str) -> bool) -> Result<Written, Vec<Fault>> {
    settings::parse(text, |root| written(root, accepts_variable))
}

fn written(root: &Table<'_>, accepts_variable: &dyn Fn(&str) -> bool) -> Written {
    // Names of identities and groups, each with the identities it stands for.
    let mut names = BTreeMap::new();
    let identities = identities(root, accepts_variable, &mut names);
    if let Some(item) = root.get("group") {
        for table in bounded(&item, item.tables(), IDENTITIES_MAX) {
            group(&table, &mut names);
        }
    }
    let mut rules: Vec<Rule> = Vec::new();
    match root.get("rule") {
        None => root.missing("rule", "there is no [[rule]], so that nobody may do anything"),
        Some(item) => {
            for table in bounded(&item, item.tables(), RULES_MAX) {
                let rule = rule(&table, &names, &identities);
                if rules.iter().any(|other| other.name == rule.name && !rule.name.is_empty()) {
                    table.missing("name", "there is a rule of this name already");
                }
                rules.push(rule);
            }
        }
    }
    root.end();
    Written { identities, rules }
}

type Names = BTreeMap<String, BTreeSet<String>>;

fn identities(
    root: &Table<'_>,
    accepts_variable: &dyn Fn(&str) -> bool,
    names: &mut Names,
) -> Vec<WrittenIdentity> {
    let Some(item) = root.get("identity") else {
        root.missing("identity", "there is no [[identity]], so that nobody can come in");
        return Vec::new();
    };
    let mut identities: Vec<WrittenIdentity> = Vec::new();
    for table in bounded(&item, item.tables(), IDENTITIES_MAX) {
        let name = name_of(&table, names).unwrap_or_default();
        names.insert(name.clone(), BTreeSet::from([name.clone()]));
        let keys = table.get("keys").map(|item| keys(&item, accepts_variable)).unwrap_or_default();
        let files = table.get("authorized_keys").map(|item| key_files(&item)).unwrap_or_default();
        if table.get("keys").is_none() && table.get("authorized_keys").is_none() {
            table.missing("keys", "this identity has no key: give keys or authorized_keys");
        }
        let totp = table.get("totp_file").and_then(|item| item.absolute_path());
        table.end();
        identities.push(WrittenIdentity { name, keys, files, totp });
    }
    if identities.iter().map(|identity| identity.files.len()).sum::<usize>() > KEY_FILES_MAX {
        item.fault(&format!("there are more than {KEY_FILES_MAX} key files"));
    }
    identities
}

fn group(table: &Table<'_>, names: &mut Names) {
    let name = name_of(table, names);
    let mut members = BTreeSet::new();
    match table.get("members") {
        None => table.missing("members", "a group needs members: names of identities"),
        Some(item) => {
            for item in item.items() {
                let Some(member) = item.string() else { continue };
                match names.get(&member) {
                    // An identity stands for itself.
                    Some(its) if its.len() == 1 && its.contains(&member) => {
                        members.insert(member);
                    }
                    Some(_) => {
                        item.fault("it is a group: groups have identities in them, not groups");
                    }
                    None => item.fault(&unknown(&member, names)),
                }
            }
        }
    }
    table.end();
    if let Some(name) = name {
        names.insert(name, members);
    }
}

fn unknown(name: &str, names: &Names) -> String {
    let name = crate::login::shown(name);
    let near = names.keys().find(|other| other.eq_ignore_ascii_case(&name));
    let advice = near.map_or_else(
        || "define it above with [[identity]] or [[group]]".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    format!("there is no identity or group {name}: {advice}")
}

fn name_of(table: &Table<'_>, names: &Names) -> Option<String> {
    let Some(item) = table.get("name") else {
        table.missing("name", "a name is needed");
        return None;
    };
    let name = item.text("a name", |text| check_name(text).map(|()| text.to_owned()))?;
    if names.contains_key(&name) {
        item.fault("there is an identity or group of this name already");
        return None;
    }
    Some(name)
}

fn is_name(text: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(is_plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Whether a text can be the name of an identity, a group or a rule; if not, one sentence.
pub fn check_name(text: &str) -> Result<(), String> {
    if is_name(text) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no name: give up to {NAME_BYTES_MAX} letters, digits, _ - . and @, beginning with a letter or digit"
    ))
}

fn keys(item: &Item<'_>, accepts_variable: &dyn Fn(&str) -> bool) -> Vec<(usize, ReadKey)> {
    let mut keys = Vec::new();
    for item in item.items() {
        let read = item.text("a line as in authorized_keys", |text| {
            if text.contains(['\n', '\r']) {
                return Err("there is more than one line in it: give a list of texts".to_owned());
            }
            authorized_keys::line_key(text.as_bytes(), accepts_variable)
                .map_err(|reason| format!("this key cannot be accepted: {reason}"))?
                .ok_or_else(|| "there is no key in it".to_owned())
        });
        keys.extend(read.map(|key| (item.place().line, key)));
    }
    if keys.is_empty() {
        item.fault("there is no key in it");
    }
    keys
}

fn key_files(item: &Item<'_>) -> Vec<PathBuf> {
    item.items().iter().filter_map(Item::absolute_path).collect()
}

fn bounded<T>(item: &Item<'_>, mut list: Vec<T>, most: usize) -> Vec<T> {
    if list.len() > most {
        item.fault(&format!("there are more than {most}"));
        list.truncate(most);
    }
    list
}

fn rule(table: &Table<'_>, names: &Names, identities: &[WrittenIdentity]) -> Rule {
    let name = match table.get("name") {
        Some(item) => item.text("a name", |text| check_name(text).map(|()| text.to_owned())),
        None => {
            table.missing(
                "name",
                "a rule needs a name: it is told in the log and by policy explain",
            );
            None
        }
    };
    let who = match table.get("who") {
        Some(item) => who(&item, names),
        None => {
            table
                .missing("who", "say whom the rule is about: identities, groups, or \"*\" for all");
            nobody()
        }
    };
    let users = match table.get("users") {
        Some(item) => users(&item),
        None => {
            table.missing(
                "users",
                "say as which users of the container: names, numbers, \"@container\" for its own, or \"*\" for all",
            );
            Users::Only(Vec::new())
        }
    };
    let targets = targets(table);
    let command = table.get("command").and_then(|item| {
        item.text("a command", |text| match text {
            "" => Err("it is empty".to_owned()),
            text if text.len() > COMMAND_BYTES_MAX || text.contains('\0') => {
                Err(format!("it is longer than {COMMAND_BYTES_MAX} bytes, or has a NUL in it"))
            }
            text => forced_command(text.to_owned()),
        })
    });
    let allow = allow(table, command.is_some());
    let fan_out = table.get("fanout").and_then(|item| item.boolean()).unwrap_or_default();
    let forward = places(table.get("forward"), "HOST:PORT", OpenPermit::parse);
    let listen = places(table.get("listen"), "[HOST:]PORT", ListenPermit::parse_local);
    let required = require(table, &who, identities);
    let from = table.get("from").and_then(|item| {
        let texts = item.strings();
        kept(&item, AddressList::parse(&texts.join(",")))
    });
    let hours = table.get("hours").and_then(|item| {
        let texts = item.strings();
        kept(&item, Hours::parse(texts.iter().map(String::as_str)))
    });
    let expiry = table.get("expires").and_then(|item| expires(&item));
    let record = table.get("record").and_then(|item| item.text("a word", str::parse));
    let unrecorded = table.get("unrecorded").and_then(|item| item.text("a word", str::parse));
    let (toolbox, toolbox_trace) = toolbox(table);
    let linger = table.get("linger").and_then(|item| linger(&item, allow, command.as_ref()));
    table.end();
    Rule {
        name: name.unwrap_or_default(),
        line: Some(table.place().line),
        who,
        targets,
        users,
        allow,
        command,
        fan_out,
        forward,
        listen,
        require_touch: required.touch,
        require_verification: required.verification,
        require_code: required.code,
        from,
        hours,
        expiry,
        record,
        unrecorded,
        toolbox,
        toolbox_trace,
        linger,
    }
}

/// The value, or its fault is told.
fn kept<T>(item: &Item<'_>, read: Result<T, String>) -> Option<T> {
    read.map_err(|fault| item.fault(&fault)).ok()
}

fn expires(item: &Item<'_>) -> Option<Timestamp> {
    item.text("a text with a time, such as \"20271231\"", |text| {
        moment(text).ok_or_else(|| format!("{text:?} is no time: give {MOMENT_FORMS}"))
    })
}

fn nobody() -> Who {
    Who::Identities(BTreeSet::new())
}

fn who(item: &Item<'_>, names: &Names) -> Who {
    let items = item.items();
    let mut identities = BTreeSet::new();
    let mut is_everyone = false;
    for item in &items {
        let Some(name) = item.string() else { continue };
        match names.get(&name) {
            _ if name == ALL => is_everyone = true,
            Some(its) => identities.extend(its.iter().cloned()),
            None => item.fault(&unknown(&name, names)),
        }
    }
    if items.is_empty() {
        item.fault("it is empty: the rule is about nobody");
    }
    if is_everyone && items.len() > 1 {
        item.fault("\"*\" is everybody already: leave the others out");
    }
    if is_everyone { Who::Everyone } else { Who::Identities(identities) }
}

fn users(item: &Item<'_>) -> Users {
    let items = bounded(item, item.items(), LIST_MAX);
    let mut users = Vec::new();
    let mut is_any = false;
    for item in &items {
        let read = item.text("a user", |text| match text {
            ALL => Ok(None),
            OWN_USER => Ok(Some(RuleUser::Own)),
            text => text.parse().map(|user| Some(RuleUser::Named(user))).map_err(
                |error: crate::login::LoginError| {
                    format!("{error}; \"{OWN_USER}\" is the container's own, \"{ALL}\" any")
                },
            ),
        });
        match read {
            Some(None) => is_any = true,
            Some(Some(user)) => users.push(user),
            None => {}
        }
    }
    if items.is_empty() {
        item.fault("it is empty: the rule allows no user");
    }
    if is_any && items.len() > 1 {
        item.fault("\"*\" is any user already: leave the others out");
    }
    if is_any { Users::Any } else { Users::Only(users) }
}

fn targets(table: &Table<'_>) -> Targets {
    let names = table.get("containers").and_then(|item| {
        let texts = item.strings();
        kept(&item, PatternList::parse(&texts.join(",")))
    });
    let labels = table.get("labels");
    let compose = table.get("compose");
    if names.is_none() && labels.is_none() && compose.is_none() && table.get("containers").is_none()
    {
        table.missing(
            "containers",
            "say which containers: containers = [\"*\"] for all, or labels, or compose",
        );
    }
    let conditions = labels.as_ref().map(|item| list_of(item, LabelPattern::parse));
    let conditions = conditions.unwrap_or_default();
    if let Some(item) = &labels
        && table.get("containers").is_none()
        && compose.is_none()
        && !conditions.is_empty()
        && conditions.iter().all(LabelPattern::is_negated)
    {
        item.fault(
            "it only leaves out, so that every other container of the host is meant: add containers = [\"*\"] if it is",
        );
    }
    Targets {
        names,
        labels: conditions,
        compose: compose.map(|item| list_of(&item, ComposePattern::parse)).unwrap_or_default(),
    }
}

/// Every text of a list that must not be empty: an empty one would be no condition at all.
fn list_of<T>(item: &Item<'_>, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
    let items = bounded(item, item.items(), super::targets::TARGETS_MAX);
    if items.is_empty() {
        item.fault("it is empty: leave it out if it is no condition");
    }
    items.iter().filter_map(|item| item.text("a text", &read)).collect()
}

/// What the words of `allow` stand for.
const WORDS: [&str; 6] = ["shell", "exec", "sftp", "sftp-read", "terminal", "agent"];

fn allow(table: &Table<'_>, is_forced: bool) -> Allow {
    let mut allow = Allow::default();
    let Some(item) = table.get("allow") else {
        if !is_forced {
            let words = WORDS.join(", ");
            table.missing("allow", &format!("say what is allowed, some of {words}, or a command"));
        }
        return allow;
    };
    for item in item.items() {
        let Some(word) = item.string() else { continue };
        let is_replaced = !matches!(word.as_str(), "terminal" | "agent");
        match word.as_str() {
            "shell" => allow.shell = true,
            "exec" => allow.exec = true,
            "sftp" => allow.sftp = Files::Write,
            // The wider of both counts, in whatever order they stand.
            "sftp-read" if allow.sftp == Files::Write => {}
            "sftp-read" => allow.sftp = Files::Read,
            "terminal" => allow.terminal = true,
            "agent" => allow.agent = true,
            word => item.fault(&settings::one_of(word, &WORDS)),
        }
        if is_forced && is_replaced && WORDS.contains(&word.as_str()) {
            item.fault("the command takes its place: leave it out");
        }
    }
    allow
}

/// What is demanded beside a key.
#[derive(Debug, Default)]
struct Required {
    touch: bool,
    verification: bool,
    code: bool,
}

fn require(table: &Table<'_>, who: &Who, identities: &[WrittenIdentity]) -> Required {
    let mut required = Required::default();
    let Some(item) = table.get("require") else { return required };
    let items = item.items();
    for item in &items {
        match item.string().as_deref() {
            Some("touch") => required.touch = true,
            Some("pin") => required.verification = true,
            Some("totp") => {
                required.code = true;
                let is_meant = |one: &&WrittenIdentity| match who {
                    Who::Everyone => true,
                    Who::Identities(names) => names.contains(&one.name),
                };
                let cannot = identities.iter().filter(is_meant).find(|one| one.totp.is_none());
                if let Some(one) = cannot {
                    item.fault(&format!(
                        "{} has no totp_file and so no codes: give it one, or a rule without totp",
                        one.name
                    ));
                }
            }
            Some(word) => item.fault(&settings::one_of(word, &["touch", "pin", "totp"])),
            None => {}
        }
    }
    if items.is_empty() {
        item.fault("it is empty: leave it out if nothing is demanded");
    }
    required
}

/// When sessions get the toolbox, and whether with what traces.
fn toolbox(table: &Table<'_>) -> (Option<ToolboxUse>, bool) {
    let when = table.get("toolbox").and_then(|item| item.text("a word", str::parse));
    let trace = table.get("toolbox_trace");
    if when == Some(ToolboxUse::Never)
        && let Some(item) = &trace
    {
        item.fault("there is no toolbox by this rule: leave it out");
    }
    (when, trace.and_then(|item| item.boolean()).unwrap_or_default())
}

/// How long a terminal waits for its client.
fn linger(item: &Item<'_>, allow: Allow, command: Option<&Program>) -> Option<Duration> {
    let has_program = match command {
        Some(command) => matches!(command, Program::Command(_)),
        None => allow.shell || allow.exec,
    };
    if !(allow.terminal && has_program) {
        item.fault(
            "only shells and commands with a terminal wait for their client: allow terminal, and shell, exec or a command beside it, or leave it out",
        );
    }
    let time = item.duration()?;
    if !(LINGER_MIN..=LINGER_MAX).contains(&time) {
        item.fault("it is out of range: give 1s to 24h, or leave it out where nothing is to wait");
        return None;
    }
    Some(time)
}

/// Places for forwards: `*` for all, a path of a unix socket, or what `parse` reads.
fn places<P>(item: Option<Item<'_>>, form: &str, parse: impl Fn(&str) -> Option<P>) -> Places<P> {
    let Some(item) = item else { return Places::none() };
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    let mut is_all = false;
    let items = bounded(&item, item.items(), LIST_MAX);
    for item in &items {
        item.text("a place", |text| match text {
            ALL => {
                is_all = true;
                Ok(())
            }
            path if path.starts_with('/') && !path.contains('\0') => {
                unix.push(path.as_bytes().to_vec());
                Ok(())
            }
            text => parse(text).map(|place| tcp.push(place)).ok_or_else(|| {
                format!(
                    "{text:?} is no place: give {form} (a port may be *), the path of a unix socket, or \"*\" for all"
                )
            }),
        });
    }
    if is_all && items.len() > 1 {
        item.fault("\"*\" is every place already: leave the others out");
    }
    if is_all { Places::All } else { Places::Only { tcp, unix } }
}
