//! `dump`, and `create --dump`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chores_common::engine::{Container, Engine, MountKind};
use chores_common::exit::{ExitCode, chain};
use chores_common::progress::Progress;
use serde_json::json;

use super::create::{host_name, open};
use super::{CommandError, Context};
use crate::browse::text::escaped;
use crate::cli::{CreateArgs, DumpArgs, KindArg, SpoolArgs};
use crate::config;
use crate::create::{CreateError, StreamOptions};
use crate::database::{Evidence, Target};
use crate::dump::{
    self, Door, DumpError, DumpOptions, Dumped, Link, Origin, SnapshotOptions, SpoolLimits,
    Surroundings,
};
use crate::mounts::is_system_point;
use crate::repository::Repository;
use crate::snapshot::{
    DumpKind, Provenance, Snapshot, SnapshotName, SourceContainer, State, StoredDump,
};
use crate::text;
use crate::worker;

/// A database that cannot be asked.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error(
        "the container {0} does not run: a dump needs its server; save its volumes with `backup create`"
    )]
    NotRunning(String),
    #[error("the container {0} is paused, so nothing can be run in it: unpause it first")]
    Paused(String),
    #[error("--link {0} is for servers: give --container for SQLite files")]
    NoFiles(String),
    #[error("--dump names the container {0} twice: one snapshot has one dump of a container")]
    Twice(String),
}

/// Saves a database as a snapshot of its own.
pub fn run(context: &Context<'_>, args: &DumpArgs) -> Result<ExitCode, CommandError> {
    let (time, begun) = (jiff::Timestamp::now(), Instant::now());
    let tags = config::tags(&args.tag)?;
    // Before anything is asked of a database.
    let repository = if args.dry_run { None } else { Some(open(context, args.init)?) };
    let around = around(context);
    let (origin, container, otherwise) = origin(context, args, &around)?;
    let name = config::name(args.name.as_deref(), || otherwise)?;
    let Some(repository) = repository else {
        answer_plan(context, &name, &origin)?;
        return Ok(ExitCode::Done);
    };
    let options = DumpOptions {
        name: name.clone(),
        container,
        unproved: args.unproved,
        spool: spool(context, &args.spool, &repository)?,
        stream: StreamOptions {
            level: config::level(&args.compression),
            uploads: context.settings.budget.uploads(),
            time,
        },
    };
    let dumped = make(context, &repository, &origin, &options, &around)?;
    let host = args.host.clone().unwrap_or_else(host_name);
    let ids = dumped.stored.record.container.iter().map(|container| container.id.clone());
    let provenance = provenance(context, ids);
    let allow_change = args.allow_change;
    let snapshot = SnapshotOptions { name, tags, host, provenance, allow_change, time, begun };
    let committed = dump::commit(&repository, &dumped, &snapshot);
    if let Some((file, reason)) = dumped.failure {
        let kept = match committed {
            Ok(None) => String::new(),
            Ok(Some((name, _))) => {
                let id = name.id.short();
                format!("; what came is kept as the snapshot {id}, which is no backup")
            }
            Err(error) => format!("; what came could not be kept: {}", chain(&error)),
        };
        let place = origin.to_string();
        return Err(CommandError::failed(DumpError::Failed { place, file, reason, kept }));
    }
    let committed = committed.map_err(of_create)?;
    let Some((name, snapshot)) = committed else { return Ok(ExitCode::Failed) };
    answer(context, &name, &snapshot)?;
    Ok(if snapshot.state == State::Complete { ExitCode::Done } else { ExitCode::Warnings })
}

/// The dumps that `create` was asked for, in the repository; none in a dry run.
pub(super) fn beside(
    context: &Context<'_>,
    repository: &Repository,
    args: &CreateArgs,
) -> Result<Vec<StoredDump>, CommandError> {
    let around = around(context);
    let mut targets: Vec<(Door, Container, KindArg)> = Vec::new();
    for target in &args.dump {
        let (door, container) = enter(context, &target.container, None)?;
        if targets.iter().any(|(_, known, _)| known.id == container.id) {
            return Err(CommandError::usage(Unasked::Twice(container.name)));
        }
        targets.push((door, container, target.kind));
    }
    let mut dumps: Vec<StoredDump> = Vec::new();
    for (door, container, kind) in targets {
        let origin = planned(door, &container, kind, Vec::new(), None, &around)?;
        if args.dry_run {
            tracing::info!("{origin} would be dumped: {}", origin.kind());
            continue;
        }
        let options = DumpOptions {
            name: container.name.clone(),
            container: Some(recorded(&container)),
            unproved: false,
            spool: spool(context, &args.spool, repository)?,
            stream: StreamOptions {
                level: config::level(&args.compression),
                uploads: context.settings.budget.uploads(),
                time: jiff::Timestamp::now(),
            },
        };
        let dumped = make(context, repository, &origin, &options, &around)?;
        if let Some((file, reason)) = dumped.failure {
            let (place, kept) = (origin.to_string(), "; no snapshot was made".to_owned());
            return Err(CommandError::failed(DumpError::Failed { place, file, reason, kept }));
        }
        dumps.push(dumped.stored);
    }
    Ok(dumps)
}

/// How much of a dump is held, and where.
fn spool(
    context: &Context<'_>,
    args: &SpoolArgs,
    repository: &Repository,
) -> Result<SpoolLimits, CommandError> {
    let (location, is_encrypted) = (context.location()?, repository.is_encrypted());
    Ok(config::spool(args, context.args, &location, is_encrypted)?)
}

/// What the containers with these ids are of; nothing is asked where there are none.
pub(super) fn provenance(
    context: &Context<'_>,
    ids: impl IntoIterator<Item = String>,
) -> Provenance {
    let ids: BTreeSet<_> = ids.into_iter().collect();
    if ids.is_empty() {
        return Provenance::default();
    }
    context.runtime.block_on(async {
        match Engine::connect(context.args.engine.as_deref()).await {
            Ok(engine) => worker::provenance(&engine, &ids, &[]).await,
            Err(error) => {
                tracing::warn!("the snapshot does not say what its containers are of: {error}");
                Provenance::default()
            }
        }
    })
}

fn around<'a>(context: &'a Context<'_>) -> Surroundings<'a> {
    Surroundings { runtime: &context.runtime, shutdown: &context.shutdown }
}

fn make(
    context: &Context<'_>,
    repository: &Repository,
    origin: &Origin,
    options: &DumpOptions,
    around: &Surroundings<'_>,
) -> Result<Dumped, CommandError> {
    let progress = Progress::new();
    let shown = context.show("dump", &progress);
    let outcome = dump::dump(repository, origin, options, &progress, around);
    shown.finish();
    outcome.map_err(of_dump)
}

fn of_dump(error: DumpError) -> CommandError {
    match error {
        DumpError::Create(error) => of_create(error),
        DumpError::Interrupted => CommandError::interrupted(error),
        DumpError::Plan(_) | DumpError::Unrecognised(..) => CommandError::usage(error),
        error => CommandError::failed(error),
    }
}

fn of_create(error: CreateError) -> CommandError {
    match error {
        CreateError::Interrupted => CommandError::interrupted(error),
        CreateError::Repository(error) => error.into(),
        error => CommandError::failed(error),
    }
}

/// Where the dump comes from, the container it comes from, and what it is called by default.
fn origin(
    context: &Context<'_>,
    args: &DumpArgs,
    around: &Surroundings<'_>,
) -> Result<(Origin, Option<SourceContainer>, String), CommandError> {
    let expect = args.expect_trailer.as_deref();
    if let Some(name) = &args.container {
        let (door, container) = enter(context, name, args.user.clone())?;
        let words = args.command.clone();
        let origin = planned(door, &container, args.kind, words, expect, around)?;
        return Ok((origin, Some(recorded(&container)), container.name));
    }
    if let Some(alias) = &args.link {
        let origin = linked(alias, args, around)?;
        return Ok((origin, None, alias.clone()));
    }
    let kind = args.kind.kind().unwrap_or(DumpKind::Command);
    Ok((Origin::Stdin(kind, args.expect_trailer.clone()), None, String::new()))
}

/// A running container.
fn enter(
    context: &Context<'_>,
    name: &str,
    user: Option<String>,
) -> Result<(Door, Container), CommandError> {
    let found = context.runtime.block_on(async {
        let engine = Engine::connect(context.args.engine.as_deref()).await?;
        let container = engine.inspect_container(name).await?;
        Ok::<_, chores_common::engine::EngineError>((engine, container))
    });
    let (engine, container) = found.map_err(CommandError::failed)?;
    if container.paused {
        return Err(CommandError::failed(Unasked::Paused(container.name)));
    }
    if !container.running {
        return Err(CommandError::failed(Unasked::NotRunning(container.name)));
    }
    let (id, name) = (container.id.clone(), container.name.clone());
    Ok((Door::Container { engine, id, name, user }, container))
}

fn planned(
    door: Door,
    container: &Container,
    kind: KindArg,
    words: Vec<String>,
    expect: Option<&str>,
    around: &Surroundings<'_>,
) -> Result<Origin, CommandError> {
    let is_data = |mount: &&chores_common::engine::Mount| {
        let place = mount.destination.to_string_lossy();
        matches!(mount.kind, MountKind::Volume | MountKind::Bind)
            && !is_system_point(place.trim_start_matches('/').as_bytes())
    };
    let mounts = container.mounts.iter().filter(is_data);
    let target = Target {
        command: container.command.clone(),
        mounts: mounts.map(|mount| mount.destination.to_string_lossy().into_owned()).collect(),
        words,
    };
    let evidence = dump::evidence_of(container);
    let plan = dump::plan(&door, kind.kind(), &evidence, &target, expect, around);
    Ok(Origin::Door(Box::new(door), Box::new(plan.map_err(of_dump)?)))
}

fn recorded(container: &Container) -> SourceContainer {
    SourceContainer {
        name: container.name.clone(),
        id: container.id.clone(),
        image: container.image_ref.clone(),
        image_id: container.image_id.clone(),
    }
}

/// A server that is reached over a network, with the clients of our own container.
fn linked(alias: &str, args: &DumpArgs, around: &Surroundings<'_>) -> Result<Origin, CommandError> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let link = Link::new(alias, &environment);
    let kind = match (args.kind.kind(), args.command.is_empty()) {
        (Some(kind), _) => Ok(kind),
        (None, false) => Ok(DumpKind::Command),
        (None, true) => crate::database::recognise(&link.evidence()).or_else(|_| {
            let ports = link.open_ports();
            crate::database::recognise(&Evidence { ports, ..Evidence::default() })
        }),
    };
    let kind = kind.map_err(|error| {
        CommandError::usage(DumpError::Unrecognised(format!("the link {alias}"), error))
    })?;
    if kind == DumpKind::Sqlite {
        return Err(CommandError::usage(Unasked::NoFiles(alias.to_owned())));
    }
    let door = Door::Here(link.environment(kind));
    let target = Target { words: args.command.clone(), ..Target::default() };
    let expect = args.expect_trailer.as_deref();
    let plan = dump::plan(&door, Some(kind), &link.evidence(), &target, expect, around);
    Ok(Origin::Door(Box::new(door), Box::new(plan.map_err(of_dump)?)))
}

fn answer_plan(context: &Context<'_>, name: &str, origin: &Origin) -> Result<(), CommandError> {
    let (server, files) = match origin {
        Origin::Door(_, plan) => {
            let files: Vec<_> = plan.steps.iter().map(|step| step.file.as_str()).collect();
            (plan.facts.server.as_str(), files)
        }
        Origin::Stdin(..) => ("", Vec::new()),
    };
    let kind = origin.kind();
    context.answer(
        || {
            let version = match server {
                "" => String::new(),
                server => format!(" {}", escaped(server.as_bytes())),
            };
            let files = files.join(", ");
            let files = escaped(files.as_bytes());
            format!("dry run of {name}: {kind}{version} of {origin} would give {files}; nothing was stored")
        },
        || {
            json!({
                "event": "summary",
                "snapshot": null,
                "name": name,
                "kind": kind,
                "server": server,
                "files": files,
                "dry_run": true,
            })
        },
    )
}

fn answer(
    context: &Context<'_>,
    name: &SnapshotName,
    snapshot: &Snapshot,
) -> Result<(), CommandError> {
    let stats = &snapshot.stats;
    let dump = snapshot.dumps.first();
    for warning in &snapshot.warnings {
        tracing::warn!("{}", escaped(warning.as_bytes()));
    }
    context.answer(
        || {
            let proof = dump.map_or_else(String::new, |dump| {
                let mark = dump.proof.marker.then_some("end mark");
                let trailer = dump.proof.trailer.as_deref();
                let proofs: Vec<_> = mark.into_iter().chain(trailer).collect();
                if proofs.is_empty() {
                    String::new()
                } else {
                    format!(", proved whole by {}", proofs.join(" and "))
                }
            });
            let kind = dump.map(|dump| dump.kind.to_string()).unwrap_or_default();
            let warnings = match snapshot.warning_count {
                0 => String::new(),
                1 => "; 1 warning".to_owned(),
                count => format!("; {count} warnings"),
            };
            format!(
                "snapshot {} of {} saved: dump of {kind}, {} files, {}{proof}; {} of new content, {} stored, in {}{warnings}",
                name.id.short(),
                snapshot.name,
                text::count(stats.files),
                text::bytes(stats.bytes),
                text::bytes(stats.bytes_added),
                text::bytes(stats.bytes_stored),
                text::duration(Duration::from_millis(stats.duration_ms)),
            )
        },
        || {
            json!({
                "event": "summary",
                "snapshot": name.id.to_string(),
                "name": snapshot.name,
                "state": snapshot.state,
                "suspicious": snapshot.suspicious,
                "sources": snapshot.sources,
                "dumps": snapshot.dumps,
                "stats": stats,
                "warning_count": snapshot.warning_count,
                "warnings": snapshot.warnings,
                "dry_run": false,
            })
        },
    )
}
