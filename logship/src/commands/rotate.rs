//! `rotate`: has the process that ships rotate files now; or says what would be done.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::exit::ExitCode;
use serde::Serialize;

use super::{CommandError, Context};
use crate::cli::{EngineArgs, RotateArgs, SourceArgs};
use crate::config::Config;
use crate::files::patterns::Patterns;
use crate::rotate::decide::{Act, Why};
use crate::rotate::lease;
use crate::rotate::look::{Look, look};
use crate::rotate::wanted::Wanted;
use crate::rotate::writers::Surroundings;
use crate::wal;

#[cfg(test)]
mod tests;

/// How long the process that ships may take.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
enum RotateCommandError {
    #[error(
        "no source is rotated: write a table [source.rotate] below a [[source]] of type \"files\" in the configuration file"
    )]
    Nothing,
    #[error("{} is none of the files that are rotated: `logship rotate --dry-run` lists them", .0.display())]
    NoSuchFile(PathBuf),
    #[error(
        "no `logship run` uses the state directory {}: only who ships the files knows what of them is safe",
        .0.display()
    )]
    NobodyShips(PathBuf),
}

/// Rotates, or says what would be done.
pub fn run(context: &Context<'_>, args: &RotateArgs) -> Result<ExitCode, CommandError> {
    let EngineArgs { engine_host, engine_files, pin, api_only } = &args.engine_access;
    let engine_access = EngineArgs {
        engine_host: engine_host.clone(),
        engine_files: engine_files.clone(),
        pin: pin.clone(),
        api_only: *api_only,
    };
    let config = Config::new(context.args, &SourceArgs { engine_access, ..SourceArgs::default() })?;
    let state = config.state.clone().unwrap_or_default();
    let mut looks = all(context, &config, &state)?;
    for path in &args.paths {
        if !looks.iter().any(|look| look.path == *path) {
            return Err(CommandError::usage(RotateCommandError::NoSuchFile(path.clone())));
        }
    }
    if !args.paths.is_empty() {
        looks.retain(|look| args.paths.contains(&look.path));
    }
    let is_json = context.args.json;
    let mut out = io::stdout().lock();
    if args.dry_run {
        let rows = looks.iter().map(Row::of);
        return write(&mut out, is_json, rows).map(|()| ExitCode::Done);
    }
    if !wal::is_in_use(&state) {
        return Err(CommandError::failed(RotateCommandError::NobodyShips(state)));
    }
    let (waiting, idle): (Vec<Look>, Vec<Look>) =
        looks.into_iter().partition(|look| !matches!(look.act, Act::Wait(_)));
    let paths = waiting.iter().map(|look| look.path.clone()).collect();
    let wanted = Wanted::ask(&state, paths).map_err(CommandError::failed)?;
    let left = wait(context, &waiting);
    wanted.withdraw(&state);
    let is_done = |look: &Look| !left.contains(&look.path);
    let done = waiting.iter().map(|look| Row { done: Some(is_done(look)), ..Row::of(look) });
    write(&mut out, is_json, done.chain(idle.iter().map(Row::of)))?;
    // Whoever names a file wants it rotated; one that is empty needs no rotation.
    let is_named = |look: &&Look| args.paths.contains(&look.path);
    let is_refused = |look: &Look| look.act != Act::Wait(Why::Empty);
    let is_done = left.is_empty() && !idle.iter().filter(is_named).any(is_refused);
    Ok(if is_done { ExitCode::Done } else { ExitCode::Warnings })
}

/// Every file that is rotated.
fn all(context: &Context<'_>, config: &Config, state: &Path) -> Result<Vec<Look>, CommandError> {
    let rules: Vec<_> = config.files().collect();
    if rules.iter().all(|rule| rule.rotate.is_none()) {
        return Err(CommandError::usage(RotateCommandError::Nothing));
    }
    {
        let _inside = context.runtime.enter();
        lease::prepare().map_err(CommandError::failed)?;
    }
    let around = context.runtime.block_on(Surroundings::ask(config.engine.host.as_deref()));
    if let Err(error) = &around {
        let error = chores_common::exit::chain(error);
        tracing::warn!(%error, "who writes to the files is not known");
    }
    let mut looks = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let Some(wishes) = &rule.rotate else { continue };
        let earlier = rules.iter().take(number);
        let earlier = earlier.map(|rule| Patterns::new(&rule.paths, &rule.exclude));
        let earlier = earlier.collect::<Result<_, _>>().map_err(CommandError::usage)?;
        let patterns = Patterns::new(&rule.paths, &rule.exclude).map_err(CommandError::usage)?;
        let found = look(&patterns.after(earlier), wishes, around.as_ref().ok(), state);
        looks.extend(found.map_err(CommandError::failed)?);
    }
    Ok(looks)
}

/// Waits until the files are others, or smaller; those that are not.
fn wait(context: &Context<'_>, looks: &[Look]) -> Vec<PathBuf> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let left = looks.iter().filter(|look| !is_rotated(look));
        let left: Vec<PathBuf> = left.map(|look| look.path.clone()).collect();
        if left.is_empty() || Instant::now() >= deadline || context.shutdown.is_requested() {
            return left;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn is_rotated(look: &Look) -> bool {
    let Ok(now) = fs::symlink_metadata(&look.path) else { return false };
    let is_cut = now.len() < look.size || now.blocks().saturating_mul(512) < look.allocated;
    now.ino() != look.inode.0 || is_cut
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    event: &'static str,
    /// What is not UTF-8 in it becomes U+FFFD.
    path: Cow<'a, str>,
    size: u64,
    on_disk: u64,
    due: bool,
    /// What is done, or would be if all of the file were shipped.
    how: String,
    policy: String,
    writers: &'a [String],
    kept: u64,
    kept_bytes: u64,
    draining: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    contradiction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
}

impl<'a> Row<'a> {
    fn of(look: &'a Look) -> Self {
        Self {
            event: "file",
            path: look.path.to_string_lossy(),
            size: look.size,
            on_disk: look.allocated,
            due: look.is_due,
            how: how(look.act),
            policy: look.policy.to_string(),
            writers: &look.writers,
            kept: look.kept.0,
            kept_bytes: look.kept.1,
            draining: look.draining,
            contradiction: look.contradiction.as_ref().map(|(one, other)| {
                format!("the labels of {one} and {other} ask for different things")
            }),
            done: None,
        }
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { path, size, on_disk, how, policy, .. } = self;
        let state = match (self.done, self.due) {
            (Some(true), _) => "rotated",
            (Some(false), _) => "not rotated in time",
            (None, true) => "due",
            (None, false) => "not due",
        };
        writeln!(out, "{path}: {state}, {size} bytes, {on_disk} on disk")?;
        writeln!(out, "  how: {how}")?;
        writeln!(out, "  policy: {policy}")?;
        if !self.writers.is_empty() {
            writeln!(out, "  writers: {}", self.writers.join(", "))?;
        }
        if let Some(contradiction) = &self.contradiction {
            writeln!(out, "  error: {contradiction}: neither counts")?;
        }
        let (kept, bytes, draining) = (self.kept, self.kept_bytes, self.draining);
        if kept > 0 || draining > 0 {
            writeln!(out, "  kept: {kept} files, {bytes} bytes; not over yet: {draining}")?;
        }
        Ok(())
    }
}

fn how(act: Act) -> String {
    match act {
        Act::Wait(why) => format!("nothing: {}", why.text()),
        Act::Rename => "rename, make a new file, tell the writers, end the old one".to_owned(),
        Act::Collapse(_) => "take what was shipped from its beginning".to_owned(),
        Act::Punch(_) => {
            "free the disk of what was shipped; it looks as large as before".to_owned()
        }
    }
}

fn write<'a>(
    out: &mut impl Write,
    is_json: bool,
    rows: impl Iterator<Item = Row<'a>>,
) -> Result<(), CommandError> {
    let mut write_row = |row: Row<'a>| -> io::Result<()> {
        if is_json {
            serde_json::to_writer(&mut *out, &row)?;
            return out.write_all(b"\n");
        }
        row.text(out)
    };
    for row in rows {
        write_row(row).map_err(CommandError::Answer)?;
    }
    out.flush().map_err(CommandError::Answer)
}
