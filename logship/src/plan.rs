//! What a container gets: the first rule that takes it, changed by its labels.
//!
//! A label can narrow what the operator set, and add to it; it cannot undo it: secrets that are redacted stay
//! redacted, a rate can only be lowered, a field that is set keeps its value.

use std::collections::BTreeMap;
use std::sync::Arc;

use chores_common::engine::Container;
use chores_common::settings::one_of;

use crate::labels::{self, LabelFault, Overrides, PREFIX};
use crate::process::ProcessSettings;
use crate::process::filter::LevelFilter;
use crate::process::rate::Rate;
use crate::process::redact::{self, RULES_MAX, Redaction, Rule};
use crate::rule::{EngineRule, FIELDS_MAX, LineRule, field_fault};
use crate::source::{Origin, SourceKey, SourceMeta};

#[cfg(test)]
mod tests;

/// Everything that plans are made from.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    /// Name of this host.
    pub host: String,
    /// In the order they are asked.
    pub rules: Vec<EngineRule>,
    /// Names of the sinks that exist.
    pub sinks: Vec<String>,
    /// Kinds of secrets that the configuration adds to the presets.
    pub secrets: BTreeMap<String, Rule>,
}

/// Whether a container is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Ship,
    /// Its label says no.
    Disabled,
    /// No source of the configuration takes it.
    NoRule,
}

/// What a container gets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether it is shipped.
    pub verdict: Verdict,
    /// The rule that takes it.
    pub rule: Option<String>,
    /// What every sink is told of it.
    pub meta: SourceMeta,
    /// What happens to its lines before the log.
    pub process: Arc<ProcessSettings>,
    /// What is wrong with its labels; such labels change nothing.
    pub faults: Vec<LabelFault>,
}

impl Plan {
    /// Whether it is shipped.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.verdict == Verdict::Ship
    }
}

impl Planner {
    /// The plan for a container.
    #[must_use]
    pub fn plan(&self, container: &Container) -> Plan {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.takes(&container.name, &container.image_ref, &container.labels));
        let (overrides, mut faults) = labels::read(&container.labels);
        let verdict = match (rule, overrides.enable) {
            (None, _) => Verdict::NoRule,
            (_, Some(false)) => Verdict::Disabled,
            _ => Verdict::Ship,
        };
        let none = EngineRule::default();
        let chosen = rule.unwrap_or(&none);
        let mut fault = |key: &str, fault: String| {
            faults.push(LabelFault { key: format!("{PREFIX}{key}"), fault });
        };
        let lines = &chosen.lines;
        let sinks = self.sinks(lines, &overrides, &mut fault);
        let fields = fields(chosen, container, &overrides, &mut fault);
        let process = self.process(lines, &overrides, &mut fault);
        let meta = SourceMeta {
            key: SourceKey(format!("engine:{}", container.id)),
            origin: Origin::Engine {
                id: container.id.clone(),
                container: container.name.clone(),
                image: container.image_ref.clone(),
                project: container.compose_project().map(str::to_owned),
                service: container.compose_service().map(str::to_owned),
            },
            host: self.host.clone(),
            fields,
            sinks,
            parse: overrides.parse.clone().unwrap_or_else(|| lines.parse.clone()),
        };
        Plan { verdict, rule: rule.map(|rule| rule.name.clone()), meta, process, faults }
    }

    fn sinks(
        &self,
        lines: &LineRule,
        overrides: &Overrides,
        fault: &mut impl FnMut(&str, String),
    ) -> Option<Vec<String>> {
        let Some(wanted) = &overrides.sinks else { return lines.sinks.clone() };
        let allowed = lines.sinks.as_ref().unwrap_or(&self.sinks);
        let (known, unknown): (Vec<_>, Vec<_>) =
            wanted.iter().cloned().partition(|name| allowed.contains(name));
        for name in &unknown {
            fault("sinks", format!("there is no sink {name}; there are {}", allowed.join(", ")));
        }
        // A misspelt name must not be the reason that nobody gets the lines.
        if known.is_empty() { lines.sinks.clone() } else { Some(known) }
    }

    fn process(
        &self,
        lines: &LineRule,
        overrides: &Overrides,
        fault: &mut impl FnMut(&str, String),
    ) -> Arc<ProcessSettings> {
        let has_override = overrides.multiline.is_some()
            || overrides.level.is_some()
            || (overrides.parse.is_some() && lines.process.level.is_some())
            || overrides.rate.is_some()
            || !overrides.redact.is_empty();
        if !has_override {
            return lines.process.clone();
        }
        let mut process = ProcessSettings::clone(&lines.process);
        if let Some(multiline) = &overrides.multiline {
            process.multiline.clone_from(multiline);
        }
        let parse = overrides.parse.as_ref().unwrap_or(&lines.parse);
        if let (Some(wanted), Some(set)) = (&overrides.level, &process.level)
            && (wanted.min < set.min || is_other(wanted, set))
        {
            fault(
                "level",
                format!("{wanted} lets more through than {set}, which is set: both count"),
            );
        }
        // What is set counts as it is, whatever a label says of how lines are taken apart.
        let set = process.level.iter().filter(|_| overrides.parse.is_some());
        let labelled = set.chain(&overrides.level).map(|level| level.clone().with(parse.clone()));
        process.labelled = labelled.collect();
        match (overrides.rate, process.rate) {
            (Some(wanted), Some(limit)) if is_above(&wanted, &limit) => {
                let said = format!("{wanted} is above {limit}, which the configuration sets");
                fault("rate", said);
            }
            (Some(wanted), _) => process.rate = Some(wanted),
            (None, _) => {}
        }
        let wanted = overrides.redact.iter().map(String::as_str);
        let known: Vec<&str> = process.redact.names();
        let added: Vec<&str> = wanted.filter(|name| !known.contains(name)).collect();
        match redaction(&process.redact, &added, &self.secrets) {
            Ok(redact) => process.redact = redact,
            Err(said) => fault("redact", said),
        }
        Arc::new(process)
    }
}

/// `known` and the kinds of secrets of these names: presets, or `own` ones.
pub fn redaction(
    known: &Redaction,
    names: &[&str],
    own: &BTreeMap<String, Rule>,
) -> Result<Redaction, String> {
    let mut rules = known.rules().to_vec();
    for name in names {
        let preset = Rule::preset(name).map_err(|error| error.to_string())?;
        match own.get(*name) {
            Some(rule) => rules.push(rule.clone()),
            None if !preset.is_empty() => rules.extend(preset),
            None => {
                let mut allowed = redact::presets().to_vec();
                allowed.extend(own.keys().map(String::as_str));
                return Err(one_of(name, &allowed));
            }
        }
    }
    if rules.len() > RULES_MAX {
        return Err(format!("there are more than {RULES_MAX} rules"));
    }
    Ok(Redaction::new(rules))
}

fn is_above(wanted: &Rate, limit: &Rate) -> bool {
    let per = |rate: &Rate, other: &Rate| i128::from(rate.records.get()) * i128::from(other.per);
    let is_denser = wanted.sample.is_some_and(|wanted| limit.sample.is_none_or(|it| wanted < it));
    per(wanted, limit) > per(limit, wanted) || wanted.burst > limit.burst || is_denser
}

/// Whether a filter lets lines through, by another field or as unknown, that the one that is set does not.
fn is_other(wanted: &LevelFilter, set: &LevelFilter) -> bool {
    (set.drops_unknown && !wanted.drops_unknown)
        || (set.field.is_some() && wanted.field != set.field)
}

/// What the operator set stands; then labels that were asked for; then what the container adds.
fn fields(
    rule: &EngineRule,
    container: &Container,
    overrides: &Overrides,
    fault: &mut impl FnMut(&str, String),
) -> BTreeMap<String, String> {
    let mut fields = rule.lines.fields.clone();
    for label in &rule.label_fields {
        if let Some(value) = container.labels.get(label).filter(|v| field_fault(label, v).is_none())
        {
            fields.entry(label.clone()).or_insert_with(|| value.clone());
        }
    }
    for (name, value) in &overrides.fields {
        if fields.get(name).is_some_and(|set| set != value) {
            fault("fields", format!("the configuration sets {name} already"));
        } else if fields.len() >= FIELDS_MAX {
            fault("fields", format!("there are more than {FIELDS_MAX} fields"));
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    fields
}
