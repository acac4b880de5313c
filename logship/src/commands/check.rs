//! `check`: is the configuration right, and what would every container and file get?

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chores_common::engine::{ContainerFilter, ContainerState, Engine, own_container_id};
use chores_common::exit::ExitCode;
use serde::Serialize;

use super::{CommandError, Context};
use crate::cli::CheckArgs;
use crate::config::Config;
use crate::direct::{CONTAINERS_DIRECTORY, sees};
use crate::files::key_of;
use crate::files::patterns::{Patterns, is_compressed};
use crate::files::reach::is_outside;
use crate::labels::LabelFault;
use crate::plan::{Plan, Verdict};
use crate::process::ProcessSettings;
use crate::rotate::look;
use crate::rotation::{Keep, Policy, Reopen};
use crate::rule::{FilesRule, LineRule};
use crate::sink::file::SharedPath;
use crate::sink::settings::{SinkSettings, Target};
use crate::source::{Origin, Parse, SourceMeta};
use crate::time;

#[cfg(test)]
mod tests;

/// Files of one rule that people are told of; machines are told of all.
const FILES_TOLD_MAX: usize = 20;

/// Files of sinks that sources share of which people are told.
const SHARED_TOLD_MAX: usize = 20;

/// Validates, and shows.
pub fn run(context: &Context<'_>, args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let config = Config::new(context.args, &args.sources)?;
    let sinks = config.sink_settings()?;
    let mut report = Report { sinks: sinks.iter().map(sink).collect(), ..Report::default() };
    let mut sources = Vec::new();
    for rule in config.files() {
        report.files.push(files(rule, &config.host, args.offline, &mut sources)?);
    }
    if config.has_engine() && !args.offline {
        report.containers = context.runtime.block_on(containers(&config, &mut sources))?;
    }
    report.shared = shared(&sinks, &sources);
    let mut out = io::stdout().lock();
    let written = if context.args.json { report.json(&mut out) } else { report.text(&mut out) };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(if report.is_clean() { ExitCode::Done } else { ExitCode::Warnings })
}

/// What would be done.
#[derive(Debug, Default)]
struct Report {
    sinks: Vec<SinkRow>,
    files: Vec<FilesRow>,
    containers: Vec<ContainerRow>,
    shared: Vec<SharedRow>,
}

#[derive(Debug, Serialize)]
struct SinkRow {
    name: String,
    url: String,
    /// The log does not wait for it beyond so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FilesRow {
    rule: String,
    paths: Vec<String>,
    #[serde(flatten)]
    lines: LinesRow,
    /// What matches now.
    files: Vec<String>,
    /// How they are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate: Option<String>,
    /// What of that will not be done, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
    /// Directories that cannot be read, and why.
    refused: Vec<String>,
    /// Patterns that match no file now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmatched: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ContainerRow {
    name: String,
    id: String,
    image: String,
    shipped: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    driver: String,
    path: &'static str,
    #[serde(flatten)]
    lines: LinesRow,
    faults: Vec<String>,
}

/// A file of a sink that two sources share.
#[derive(Debug, Serialize)]
struct SharedRow {
    sink: String,
    #[serde(flatten)]
    shared: SharedPath,
}

/// What happens to lines.
#[derive(Debug, Serialize, Default)]
struct LinesRow {
    /// All of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sinks: Option<Vec<String>>,
    parse: Parse,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiline: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    redact: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
}

fn sink(sink: &SinkSettings) -> SinkRow {
    SinkRow { name: sink.name.clone(), url: sink.url.clone(), backlog_max: sink.backlog_bytes_max }
}

/// The files that get the lines of two of these sources, although their sinks name each.
fn shared(sinks: &[SinkSettings], sources: &[Arc<SourceMeta>]) -> Vec<SharedRow> {
    let now = time::now();
    let of = |sink: &SinkSettings| {
        let Target::File(file) = &sink.target else { return Vec::new() };
        let row = |shared| SharedRow { sink: sink.name.clone(), shared };
        let its = sources.iter().filter(|meta| meta.is_for(&sink.name));
        file.shared(its, now).into_iter().map(row).collect()
    };
    sinks.iter().flat_map(of).collect()
}

/// What a rule does; what it reads now is added to `sources`.
fn files(
    rule: &FilesRule,
    host: &str,
    is_offline: bool,
    sources: &mut Vec<Arc<SourceMeta>>,
) -> Result<FilesRow, CommandError> {
    let patterns = Patterns::new(&rule.paths, &rule.exclude).map_err(CommandError::usage)?;
    let LineRule { parse, process, fields, sinks } = &rule.lines;
    let mut row = FilesRow {
        rule: rule.name.clone(),
        paths: rule.paths.clone(),
        lines: LinesRow::new(parse, process, fields, sinks.as_ref()),
        files: Vec::new(),
        rotate: rule.rotate.as_ref().map(|wishes| wishes.policy().to_string()),
        notices: rule.rotate.as_ref().map(|wishes| notices(&wishes.policy())).unwrap_or_default(),
        refused: Vec::new(),
        unmatched: Vec::new(),
    };
    if is_offline {
        return Ok(row);
    }
    let listing = patterns.list();
    if rule.rotate.is_some() {
        let directories = listing.directories.keys();
        let read_only = directories.filter(|directory| look::is_read_only(directory));
        row.notices.extend(read_only.map(|directory| {
            let directory = directory.display();
            format!("{directory} is mounted read-only: its files are shipped, and not rotated")
        }));
    }
    row.unmatched = patterns.unmatched(&listing).into_iter().map(str::to_owned).collect();
    let mut refused = listing.refused;
    for (directory, names) in &listing.directories {
        let names = names.iter().map(|named| named.name.as_os_str());
        // It was there a moment ago.
        let Ok(all) = patterns.facts_in(directory, names) else { continue };
        for (path, facts) in all {
            match facts {
                _ if !patterns.is_meant(&path) || is_compressed(&path) => {}
                Ok(facts) if facts.is_regular => {
                    row.files.push(path.display().to_string());
                    let path = path.to_string_lossy().into_owned();
                    let inode = facts.identity.inode;
                    sources.push(Arc::new(SourceMeta {
                        key: key_of(facts.identity),
                        origin: Origin::File { path, volume: None, inode },
                        host: host.to_owned(),
                        fields: BTreeMap::new(),
                        sinks: sinks.clone(),
                        parse: parse.clone(),
                    }));
                }
                Err(error) if is_outside(&error) => refused.push((path, error)),
                Ok(_) | Err(_) => {}
            }
        }
    }
    let refused = refused.iter();
    row.refused = refused.map(|(path, why)| format!("{}: {why}", path.display())).collect();
    Ok(row)
}

/// What of a policy has no effect by itself.
fn notices(policy: &Policy) -> Vec<String> {
    let mut notices = Vec::new();
    if policy.size.is_none() && policy.every.is_none() {
        notices.push(
            "neither size nor every is set: files are rotated only as labels say, and when asked to"
                .to_owned(),
        );
    }
    if policy.reopen == Reopen::None && (policy.compress || policy.keep != Keep::default()) {
        notices.push(
            "reopen is none: while a writer has the file, what was shipped is taken from its beginning, and \
             nothing is left to keep or compress"
                .to_owned(),
        );
    }
    notices
}

impl LinesRow {
    fn new(
        parse: &Parse,
        process: &ProcessSettings,
        fields: &BTreeMap<String, String>,
        sinks: Option<&Vec<String>>,
    ) -> Self {
        Self {
            sinks: sinks.cloned(),
            parse: parse.clone(),
            multiline: process.multiline.as_ref().map(|multiline| multiline.text.clone()),
            redact: process.redact.names().into_iter().map(str::to_owned).collect(),
            level: process.level.as_ref().map(ToString::to_string),
            rate: process.rate.map(|rate| rate.to_string()),
            fields: fields.clone(),
        }
    }

    /// `parse=json multiline=java`; empty when lines go everywhere as they are.
    fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.sinks.as_ref().map(|sinks| format!("sinks={}", sinks.join(","))));
        if self.parse != Parse::None {
            parts.push(format!("parse={}", self.parse));
        }
        parts.extend(self.multiline.as_ref().map(|text| format!("multiline={text}")));
        if !self.redact.is_empty() {
            parts.push(format!("redact={}", self.redact.join(",")));
        }
        parts.extend(self.level.as_ref().map(|level| format!("level={level}")));
        parts.extend(self.rate.as_ref().map(|rate| format!("rate={rate}")));
        let fields: Vec<_> =
            self.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !fields.is_empty() {
            parts.push(format!("fields={}", fields.join(",")));
        }
        parts.join(" ")
    }
}

/// Every running container and its plan, by name; those that are shipped are added to `sources`.
async fn containers(
    config: &Config,
    sources: &mut Vec<Arc<SourceMeta>>,
) -> Result<Vec<ContainerRow>, CommandError> {
    let engine =
        Engine::connect(config.engine.host.as_deref()).await.map_err(CommandError::failed)?;
    let listed = engine.list_containers(&ContainerFilter::default()).await;
    let own = own_container_id();
    let usual = || Some(PathBuf::from(CONTAINERS_DIRECTORY)).filter(|path| path.is_dir());
    let directory = config.engine.files.clone().or_else(usual).filter(|_| !config.engine.api_only);
    let planner = config.planner();
    let mut rows = Vec::new();
    for listed in listed.map_err(CommandError::failed)? {
        if listed.state == ContainerState::NotRunning {
            continue;
        }
        // It may have ended since the list.
        let Ok(container) = engine.inspect_container(&listed.id).await else { continue };
        let plan = planner.plan(&container);
        let is_own = own.as_ref() == Some(&container.id);
        let path = way(directory.as_deref(), &container);
        if plan.is_enabled() && !is_own {
            sources.push(Arc::new(plan.meta.clone()));
        }
        rows.push(row(&container, plan, is_own, path));
    }
    rows.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(rows)
}

/// How the log of a container is read.
fn way(directory: Option<&Path>, container: &chores_common::engine::Container) -> &'static str {
    match container.log.driver.as_str() {
        "none" => "nothing is kept",
        _ if directory.is_some_and(|directory| sees(directory, container)) => "direct",
        _ => "API",
    }
}

fn row(
    container: &chores_common::engine::Container,
    plan: Plan,
    is_own: bool,
    path: &'static str,
) -> ContainerRow {
    let reason = match plan.verdict {
        _ if is_own => Some("it is this program itself"),
        Verdict::Ship => None,
        Verdict::Disabled => Some("its label chores.logship.enable says no"),
        Verdict::NoRule => Some("no source takes it"),
    };
    ContainerRow {
        name: container.name.clone(),
        id: container.id.clone(),
        image: container.image_ref.clone(),
        shipped: reason.is_none(),
        reason,
        driver: container.log.driver.clone(),
        path,
        lines: LinesRow::new(
            &plan.meta.parse,
            &plan.process,
            &plan.meta.fields,
            plan.meta.sinks.as_ref(),
        ),
        faults: plan.faults.iter().map(LabelFault::to_string).collect(),
        rule: plan.rule,
    }
}

impl Report {
    fn is_clean(&self) -> bool {
        self.containers.iter().all(|container| container.faults.is_empty())
            && self.files.iter().all(|it| it.refused.is_empty() && it.unmatched.is_empty())
            && self.shared.is_empty()
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        for SinkRow { name, url, backlog_max } in &self.sinks {
            write!(out, "sink {name}: {url}")?;
            if let Some(bytes) = backlog_max {
                write!(out, ", optional: loses what is {bytes} bytes behind")?;
            }
            writeln!(out)?;
        }
        for row in &self.files {
            let FilesRow { rule, paths, lines, files, rotate, notices, refused, unmatched } = row;
            writeln!(out, "files of {rule}: {}", joined(&[&paths.join(" "), &lines.text()]))?;
            for file in files.iter().take(FILES_TOLD_MAX) {
                writeln!(out, "  {file}")?;
            }
            if let Some(others) = files.len().checked_sub(FILES_TOLD_MAX).filter(|n| *n > 0) {
                writeln!(out, "  and {others} more")?;
            }
            if let Some(rotate) = rotate {
                writeln!(out, "  rotated: {rotate}")?;
            }
            for notice in notices {
                writeln!(out, "notice: {rule}: {notice}")?;
            }
            for refused in refused {
                writeln!(out, "error: cannot read {refused}")?;
            }
            for pattern in unmatched {
                writeln!(out, "error: {rule}: no file matches {pattern}")?;
            }
        }
        let mut shipped = 0;
        for row in &self.containers {
            let ContainerRow { name, driver, path, .. } = row;
            if let Some(reason) = row.reason {
                writeln!(out, "container {name}: not shipped, {reason}")?;
            } else {
                shipped += 1;
                let rule = row.rule.as_deref().unwrap_or_default();
                let how = format!("by {rule}, {driver} read by {path}");
                writeln!(out, "container {name}: {}", joined(&[&how, &row.lines.text()]))?;
            }
            for fault in &row.faults {
                writeln!(out, "error: container {name}: {fault}")?;
            }
        }
        for SharedRow { sink, shared } in self.shared.iter().take(SHARED_TOLD_MAX) {
            writeln!(out, "error: sink {sink}: {shared}")?;
        }
        if let Some(others) = self.shared.len().checked_sub(SHARED_TOLD_MAX).filter(|n| *n > 0) {
            writeln!(out, "error: {others} more files are shared by sources")?;
        }
        let faults: usize = self.containers.iter().map(|row| row.faults.len()).sum();
        writeln!(
            out,
            "the configuration is right; {shipped} of {} containers are shipped, {faults} labels are wrong",
            self.containers.len()
        )
    }

    fn json(&self, out: &mut impl Write) -> io::Result<()> {
        for sink in &self.sinks {
            line("sink", sink, out)?;
        }
        for files in &self.files {
            line("files", files, out)?;
        }
        for container in &self.containers {
            line("container", container, out)?;
        }
        for shared in &self.shared {
            line("shared", shared, out)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    row: &'a T,
}

fn line(event: &'static str, row: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Line { event, row })?;
    out.write_all(b"\n")
}

/// What is there, with commas between.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}
