//! `policy`: what does it say, and is that what it should say?

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chores_common::engine::{ContainerFilter, Engine, ListedContainer};
use chores_common::exit::ExitCode;
use chores_common::settings;
use jiff::Timestamp;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{CommandError, print};
use crate::authorized_keys::{AuthorizedKey, Options};
use crate::cli::{AdmissionArgs, CommonArgs, Environment, ExplainArgs, PolicyCommand, TestArgs};
use crate::config::{self, SettingError};
use crate::login::{self, Login, Resolution, shown};
use crate::policy::expectations::{self, keys_of};
use crate::policy::verdict::{self, ACTIONS, Action, Client, Outcome, Verdict};
use crate::policy::{self, Access, Denial, Policy};

/// The engine answers within this.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error(
        "{} is no identity of the policy, and no comment or fingerprint of its keys, or they are revoked", shown(.0)
    )]
    Nobody(String),
    #[error("{0}")]
    NoContainer(String),
    #[error("the container engine does not answer within {} s", ENGINE_TIME_MAX.as_secs())]
    EngineSilent,
}

/// Runs one of its commands.
pub fn run(common: &CommonArgs, command: &PolicyCommand) -> Result<ExitCode, CommandError> {
    match command {
        PolicyCommand::Explain(args) => explain(common, args),
        PolicyCommand::Test(args) => test(common, args),
    }
}

/// The policy that `serve` would have with these settings.
fn load(common: &CommonArgs, admission: &AdmissionArgs) -> Result<Policy, CommandError> {
    let (source, revoked, accepted) =
        config::for_policy(common, admission, Environment::of_process())?;
    let (_, policy) =
        policy::file::load(&source, &revoked, &|name| policy::accepts_variable(&accepted, name));
    let policy = policy?;
    for fault in policy.keys().faults() {
        tracing::warn!("{fault}");
    }
    Ok(policy)
}

fn test(common: &CommonArgs, args: &TestArgs) -> Result<ExitCode, CommandError> {
    let policy = load(common, &args.admission)?;
    let table = settings::read(&args.table, expectations::parse).map_err(SettingError::File)?;
    let surprises = table.surprises(&policy, Timestamp::now());
    let mut text = String::new();
    for surprise in &surprises {
        let message = &surprise.message;
        let line = if common.json {
            serde_json::json!({"line": surprise.line, "message": message}).to_string()
        } else {
            format!("{}:{}: {message}", args.table.display(), surprise.line)
        };
        text.push_str(&line);
        text.push('\n');
    }
    if !common.json {
        let all = table.len();
        let mut failed: Vec<_> = surprises.iter().map(|surprise| surprise.line).collect();
        failed.dedup();
        text.push_str(&format!("{} of {all} expectations hold\n", all - failed.len()));
    }
    print(text.as_bytes())?;
    Ok(if surprises.is_empty() { ExitCode::Done } else { ExitCode::Failed })
}

fn explain(common: &CommonArgs, args: &ExplainArgs) -> Result<ExitCode, CommandError> {
    let policy = load(common, &args.admission)?;
    let target = Login::parse(&args.target)
        .map_err(|error| SettingError::flag("TARGET", &args.target, &error))?;
    let now = match &args.at {
        None => Timestamp::now(),
        Some(text) => text.parse().map_err(|_| {
            let fault = "it is no time: give for example 2026-11-30T12:00:00Z";
            SettingError::flag("--at", text, &fault)
        })?,
    };
    let peer = args.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let keys = keys_of(&policy, &args.who);
    if keys.is_empty() {
        return Err(CommandError::usage(ExplainError::Nobody(args.who.clone())));
    }
    let containers = containers(common)?;
    let mut text = String::new();
    for lines in &keys {
        let Some(key) = lines.first() else { continue };
        let client = Client { lines, peer, now };
        let entered = verdict::enter(&policy, client, &target, &containers);
        // What may not be entered does not exist for the client, but for the operator who asks.
        let container = match &entered {
            Ok((container, _)) => container.clone(),
            Err(_) => one(&target, &containers)?,
        };
        let verdicts = verdict::explain(&policy, client, &container, target.user.as_ref());
        let access = entered.map(|(_, access)| access);
        let explanation = Explanation { key, container, verdicts, access };
        text.push_str(&if common.json { explanation.json() } else { explanation.text() });
    }
    print(text.as_bytes())
}

/// The one container that a target means when everything may be entered.
fn one(target: &Login, containers: &[ListedContainer]) -> Result<ListedContainer, CommandError> {
    let resolution = login::resolve(&target.selector, containers);
    if let Resolution::One(container) = resolution {
        return Ok(container.clone());
    }
    let reason = login::explain(&target.selector, &resolution).unwrap_or_default();
    Err(CommandError::failed(ExplainError::NoContainer(reason)))
}

fn containers(common: &CommonArgs) -> Result<Vec<ListedContainer>, CommandError> {
    let config = config::engine(common)?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
    // A deadline needs the runtime round it.
    let listed = runtime.block_on(async {
        let asked = async {
            let engine = Engine::connect(config.as_deref()).await?;
            engine.list_containers(&ContainerFilter { all: true, ..Default::default() }).await
        };
        timeout(ENGINE_TIME_MAX, asked).await
    });
    // What hangs must not hold up the answer.
    runtime.shutdown_background();
    listed
        .map_err(|_| CommandError::failed(ExplainError::EngineSilent))?
        .map_err(CommandError::failed)
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Decides => "decides".to_owned(),
        Outcome::TooLate => "would fit too, but another one decides before it".to_owned(),
        // What is true of all rules where nobody may enter is said of one here.
        Outcome::No(Denial::NoRule) => "does not fit: it is not about the key".to_owned(),
        Outcome::No(denial) => format!("does not fit: {denial}"),
    }
}

fn allowed(access: &Access) -> (Vec<String>, Vec<String>) {
    let check = |action: &Action| action.check(access).is_ok();
    let (may, may_not): (Vec<_>, Vec<_>) = ACTIONS.iter().partition(|action| check(action));
    let words = |actions: Vec<&Action>| actions.iter().map(ToString::to_string).collect();
    (words(may), words(may_not))
}

fn recorded(access: &Access) -> String {
    let record = access.rule().record;
    record.map_or_else(|| "as the configuration says".to_owned(), |record| record.to_string())
}

fn tools(access: &Access) -> String {
    let rule = access.rule();
    let when = rule.toolbox.map_or("as the configuration says".to_owned(), |when| when.to_string());
    if rule.toolbox_trace { format!("{when}, with what traces") } else { when }
}

fn lingers(access: &Access) -> String {
    access.linger().map_or_else(|| "no".to_owned(), |time| format!("{} s", time.as_secs()))
}

/// What is said about one key.
struct Explanation<'a> {
    key: &'a AuthorizedKey,
    container: ListedContainer,
    verdicts: Vec<Verdict>,
    /// Or why it may not enter.
    access: Result<Access, String>,
}

impl Explanation<'_> {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        let owner = self.key.owner.as_deref().unwrap_or("(no identity)");
        let name = shown(&self.container.name);
        let what = if self.key.options.cert_authority { "certificates of " } else { "" };
        lines.push(format!("{owner} with {what}{} in {name}", self.key.fingerprint));
        for verdict in &self.verdicts {
            let place = verdict.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            let (rule, key, said) = (&verdict.rule, &verdict.key, said(&verdict.outcome));
            lines.push(format!("  rule {rule}{place} with the key of {key}: {said}"));
        }
        match &self.access {
            Err(reason) => lines.push(format!("  may not enter: {reason}")),
            Ok(access) => {
                let (may, may_not) = allowed(access);
                let user = access.user().unwrap_or("of the container");
                lines.push(format!("  as the user {user}"));
                lines.push(format!("  may: {}", may.join(", ")));
                lines.push(format!("  may not: {}", may_not.join(", ")));
                lines.push(format!("  forwards to: {}", access.rule().forward));
                lines.push(format!("  listens at: {}", access.rule().listen));
                lines.push(format!("  recorded: {}", recorded(access)));
                lines.push(format!("  toolbox: {}", tools(access)));
                lines.push(format!("  lingers: {}", lingers(access)));
                if access.key().options != Options::default() {
                    lines.push("  the options of the key may take some of that away".to_owned());
                }
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self) -> String {
        let rules: Vec<_> = self
            .verdicts
            .iter()
            .map(|verdict| {
                serde_json::json!({
                    "rule": verdict.rule, "line": verdict.line, "key": verdict.key,
                    "decides": verdict.outcome == Outcome::Decides,
                    "said": said(&verdict.outcome),
                })
            })
            .collect();
        let access = match &self.access {
            Err(reason) => serde_json::json!({"enters": false, "reason": reason}),
            Ok(access) => {
                let (may, may_not) = allowed(access);
                serde_json::json!({
                    "enters": true, "rule": access.rule().name, "user": access.user(),
                    "may": may, "may_not": may_not,
                    "forwards": access.rule().forward.to_string(),
                    "listens": access.rule().listen.to_string(),
                    "recorded": recorded(access),
                    "toolbox": tools(access),
                    "linger_seconds": access.linger().map(|time| time.as_secs()),
                })
            }
        };
        let answer = serde_json::json!({
            "identity": self.key.owner.as_deref(), "key": self.key.fingerprint,
            "container": self.container.name, "id": self.container.id,
            "rules": rules, "access": access,
        });
        format!("{answer}\n")
    }
}
