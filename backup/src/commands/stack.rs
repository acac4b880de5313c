//! `restore --project`: a Compose project as it was at a time.

use std::io::{self, Write};

use chores_common::engine::{Engine, EngineError};
use chores_common::exit::{ExitCode, chain};
use jiff::Timestamp;

use super::{CommandError, Context};
use crate::browse::text::escaped;
use crate::cli::RestoreArgs;
use crate::coverage::{History, history};
use crate::into::{self, IntoError, IntoOptions, Wishes};
use crate::repository::Repository;
use crate::restore::RestoreError;
use crate::stack::{
    self, Amount, Answer, DumpPick, Outcome, Restored, Rules, Step, Wish, write_json, write_text,
};
use crate::worker::{self, VolumeTarget, WorkerError, WorkerOptions};

/// Restores the volumes of a project, or its dumps.
pub fn run(
    context: &Context<'_>,
    args: &RestoreArgs,
    project: &str,
) -> Result<ExitCode, CommandError> {
    let now = Timestamp::now();
    let as_of = args.as_of.as_deref().map_or(Ok(now), |text| stack::as_of(text, now));
    let as_of = as_of.map_err(CommandError::usage)?;
    let repository = context.readable_repository()?;
    let History { recorded, unreadable, notes } = history(&repository)?;
    let wish = Wish { project, as_of, host: args.from_host.as_deref() };
    let mut choice = stack::choose(&recorded, &wish).map_err(CommandError::usage)?;
    choice.notes.extend(notes);
    choice.notes.extend(unreadable.iter().map(|(id, problem)| {
        format!("snapshot {} cannot be read, so nobody can say what it has: {problem}", id.short())
    }));
    let answer = Answer {
        project: project.to_owned(),
        as_of,
        dry_run: args.dry_run,
        choice,
        volumes: Vec::new(),
        dumps: Vec::new(),
        is_of_dumps: args.dumps,
    };
    let engine = context.runtime.block_on(Engine::connect(context.args.engine.as_deref()));
    let engine = engine.map_err(CommandError::failed)?;
    let run = Run { context, args, engine: &engine, repository: &repository };
    if args.dumps { run.dumps(answer) } else { run.volumes(answer) }
}

/// Nothing was done, and everything that stands in the way.
#[derive(Debug, thiserror::Error)]
#[error("nothing was restored: {}", escaped(.0.join("; ").as_bytes()))]
struct Refused(Vec<String>);

/// A signal, before anything was written.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before anything was restored")]
struct Stopped;

/// It ended in the middle.
#[derive(Debug, thiserror::Error)]
#[error("{what} {problem}; back is {}, not begun: {}", listed(.done), listed(.not_begun))]
struct Broken {
    what: String,
    problem: String,
    done: Vec<String>,
    not_begun: Vec<String>,
}

fn listed(names: &[String]) -> String {
    let names = names.join(", ");
    if names.is_empty() { "nothing".to_owned() } else { escaped(names.as_bytes()).to_string() }
}

/// How far it came.
struct Ended {
    /// Names of what is back, in order.
    done: Vec<String>,
    worst: ExitCode,
}

struct Run<'a> {
    context: &'a Context<'a>,
    args: &'a RestoreArgs,
    engine: &'a Engine,
    repository: &'a Repository,
}

impl Run<'_> {
    fn volumes(&self, mut answer: Answer) -> Result<ExitCode, CommandError> {
        let args = self.args;
        let prefix = args.volume_prefix.as_deref().unwrap_or_default();
        let facts = self.ask(stack::facts(self.engine, &answer.choice, prefix))?;
        let rules = Rules { prefix, replace: args.replace, force: args.force };
        let (steps, notes) = stack::steps(&answer.choice, &facts, &rules).map_err(refused)?;
        answer.choice.notes.extend(notes);
        let amounts = stack::look(self.repository, &steps, &self.context.shutdown);
        let amounts = amounts.map_err(|error| match error {
            RestoreError::Interrupted => CommandError::interrupted(error),
            error => CommandError::failed(error),
        })?;
        let amounts = amounts.map_err(|problems| CommandError::failed(Refused(problems)))?;
        let options = super::worker::options(self.context, self.repository, true, &args.worker)?;
        self.try_places(&options, &steps)?;
        let outcome = if args.dry_run { Outcome::Possible } else { Outcome::Untouched };
        let of = |(what, amount)| Restored { what, amount, outcome: outcome.clone() };
        answer.volumes = steps.into_iter().zip(amounts).map(of).collect();
        if args.dry_run {
            return self.end(&answer, ExitCode::Done);
        }
        let count = answer.volumes.len();
        let mut ended = Ended { done: Vec::new(), worst: ExitCode::Done };
        for number in 0..count {
            let Some(volume) = answer.volumes.get_mut(number) else { break };
            let step = volume.what.clone();
            let from = &step.pick.from;
            tracing::info!(
                "volume {} of {count}: {} from snapshot {}",
                number + 1,
                step.target,
                from.id.short()
            );
            let status = self.restore_volume(&options, &step, false);
            let (code, problem) = match &status {
                Ok(0) => (ExitCode::Done, None),
                Ok(3) => (ExitCode::Warnings, None),
                Ok(130) => (ExitCode::Interrupted, Some("was interrupted".to_owned())),
                Ok(2) => (ExitCode::Usage, Some("was refused".to_owned())),
                Ok(_) => (ExitCode::Failed, Some("is not whole".to_owned())),
                Err(error) => (ExitCode::Failed, Some(format!("failed: {}", chain(error)))),
            };
            volume.outcome = match code {
                ExitCode::Done => Outcome::Restored,
                ExitCode::Warnings => Outcome::WithWarnings,
                _ => Outcome::Failed,
            };
            let Some(problem) = problem else {
                ended.worst = ended.worst.or_worse(code);
                ended.done.push(step.target);
                continue;
            };
            self.write_or_warn(&answer);
            let rest = answer.volumes.get(number + 1..).unwrap_or_default();
            return Err(broken(
                code,
                Broken {
                    what: format!("the volume {}", step.target),
                    problem,
                    done: ended.done,
                    not_begun: rest.iter().map(|volume| volume.what.target.clone()).collect(),
                },
            ));
        }
        self.end(&answer, ended.worst)
    }

    /// Lets a worker look at the places that only a driver knows: they may have content although there is no volume, or not be
    /// there. Volumes that are made for that go again.
    fn try_places(&self, options: &WorkerOptions, steps: &[Step]) -> Result<(), CommandError> {
        let mut problems = Vec::new();
        for step in steps.iter().filter(|step| step.leads_elsewhere()) {
            let problem = match self.restore_volume(options, step, true) {
                Ok(0 | 3) => continue,
                Ok(130) => return Err(CommandError::interrupted(Stopped)),
                Ok(_) => {
                    "the place that its options lead to does not take it (the line above says why)"
                        .to_owned()
                }
                Err(error) => chain(&error),
            };
            problems.push(format!("the volume {}: {problem}", step.target));
        }
        if problems.is_empty() { Ok(()) } else { Err(refused(problems)) }
    }

    /// The exit status of the worker that does it, or only looks.
    fn restore_volume(
        &self,
        options: &WorkerOptions,
        step: &Step,
        dry_run: bool,
    ) -> Result<i64, WorkerError> {
        let target = VolumeTarget {
            name: step.target.clone(),
            recorded: Some(step.pick.recorded.clone()),
            force: self.args.force,
            dry_run,
        };
        let mut words = vec![step.pick.from.id.to_string(), format!("--source={}", step.pick.path)];
        // Also for one that is not there: its driver may lead to a place that has something.
        words.extend(self.args.replace.then(|| "--replace".to_owned()));
        words.extend(self.args.force.then(|| "--force".to_owned()));
        words.extend(dry_run.then(|| "--dry-run".to_owned()));
        words.extend(super::worker::common_words(self.context));
        let shutdown = &self.context.shutdown;
        // What it says is in our own answer.
        let mut on_line = |line: &str| tracing::debug!("{line}");
        let restored =
            worker::restore_volume(self.engine, options, &target, words, shutdown, &mut on_line);
        self.context.runtime.block_on(restored)
    }

    fn dumps(&self, mut answer: Answer) -> Result<ExitCode, CommandError> {
        if answer.choice.dumps.is_empty() {
            return Err(CommandError::usage(NoDumps(answer.project)));
        }
        let containers = self.ask(stack::containers(self.engine, &answer.project))?;
        let found = stack::databases(&answer.choice, &containers).map_err(refused)?;
        // All of them are read and looked at before the first one is changed.
        let mut problems = Vec::new();
        for (dump, container) in found {
            match self.restore_dump(&dump, &container, true) {
                Ok(amount) => answer.dumps.push(Restored {
                    what: (dump, container),
                    amount,
                    outcome: if self.args.dry_run { Outcome::Possible } else { Outcome::Untouched },
                }),
                Err(error) if error.exit_code() == ExitCode::Interrupted => return Err(error),
                Err(error) => problems.push(chain(&error)),
            }
        }
        if !problems.is_empty() {
            return Err(refused(problems));
        }
        if self.args.dry_run {
            return self.end(&answer, ExitCode::Done);
        }
        let mut done = Vec::new();
        let count = answer.dumps.len();
        for number in 0..count {
            let Some(restored) = answer.dumps.get_mut(number) else { break };
            let (dump, container) = restored.what.clone();
            tracing::info!(
                "dump {} of {count}: {} into {container} from snapshot {}",
                number + 1,
                dump.record.path,
                dump.from.id.short()
            );
            match self.restore_dump(&dump, &container, false) {
                Ok(_) => {
                    restored.outcome = Outcome::Restored;
                    done.push(container);
                }
                Err(error) => {
                    restored.outcome = Outcome::Failed;
                    self.write_or_warn(&answer);
                    let rest = answer.dumps.get(number + 1..).unwrap_or_default();
                    return Err(broken(
                        error.exit_code(),
                        Broken {
                            what: format!("the dump {}", dump.record.path),
                            problem: format!("failed: {}", chain(&error)),
                            done,
                            not_begun: rest.iter().map(|next| next.what.1.clone()).collect(),
                        },
                    ));
                }
            }
        }
        self.end(&answer, ExitCode::Done)
    }

    fn restore_dump(
        &self,
        dump: &DumpPick,
        container: &str,
        dry_run: bool,
    ) -> Result<Amount, CommandError> {
        let (_, snapshot) = self.repository.select(&stack::selector(dump.from.id))?;
        let chosen = into::choose(&snapshot.dumps, Some(&dump.record.path), &[]);
        let chosen = chosen.map_err(CommandError::usage)?;
        let wishes =
            Wishes { replace: self.args.replace, accounts: true, make: false, command: Vec::new() };
        let options = IntoOptions { wishes, prove: dry_run, dry_run };
        let restored = into::restore_into(
            self.engine,
            self.repository,
            &snapshot,
            &chosen,
            container,
            &options,
            &self.context.shutdown,
        );
        let report = self.context.runtime.block_on(restored).map_err(|error| match error {
            IntoError::Interrupted(_) => CommandError::interrupted(error),
            error => CommandError::failed(error),
        })?;
        Ok(Amount { files: report.files, bytes: report.bytes })
    }

    fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        self.context.runtime.block_on(asked).map_err(CommandError::failed)
    }

    fn end(&self, answer: &Answer, worst: ExitCode) -> Result<ExitCode, CommandError> {
        self.write(answer)?;
        let left = if answer.has_left() { ExitCode::Warnings } else { ExitCode::Done };
        Ok(worst.or_worse(left))
    }

    /// Behind a failure, whose own sentence must come whether anybody reads the answer or not.
    fn write_or_warn(&self, answer: &Answer) {
        if let Err(error) = self.write(answer) {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn write(&self, answer: &Answer) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        let written = if self.context.settings.json {
            write_json(answer, &mut out)
        } else {
            write_text(answer, &mut out)
        };
        written.and_then(|()| out.flush()).map_err(CommandError::Answer)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no proved snapshot of that time has a dump of the project {0}: leave out --dumps")]
struct NoDumps(String);

fn refused(problems: Vec<String>) -> CommandError {
    CommandError::usage(Refused(problems))
}

fn broken(code: ExitCode, error: Broken) -> CommandError {
    if code == ExitCode::Interrupted {
        CommandError::interrupted(error)
    } else {
        CommandError::failed(error)
    }
}
