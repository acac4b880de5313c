//! `create --volumes-from`, `create --volume` and `restore --volume`: the same commands, in a worker.

use std::io::Write;

use chores_common::engine::Engine;
use chores_common::exit::ExitCode;
use chores_common::secret::Secret;

use super::restore::{into, named};
use super::{CommandError, Context};
use crate::cli::{CreateArgs, RestoreArgs, SelectionArgs, WorkerArgs};
use crate::config;
use crate::repository::Repository;
use crate::restore::refuse_loss;
use crate::restore::select::source_named;
use crate::worker::{
    self, Stillness, Target, VolumeTarget, WorkerError, WorkerKeys, WorkerOptions,
};

/// Saves volumes that this process does not see: one snapshot for each container, one for the volumes.
pub fn create(context: &Context<'_>, args: &CreateArgs) -> Result<ExitCode, CommandError> {
    if args.name.is_some() && targets_of(args) > 1 {
        return Err(CommandError::usage(OneName));
    }
    if args.quiesce.max_pause.is_some() && targets_of(args) > 1 {
        return Err(CommandError::usage(OneMoment));
    }
    if !args.dump.is_empty() && targets_of(args) > 1 {
        return Err(CommandError::usage(OneDump));
    }
    let repository = super::create::open(context, args.init)?;
    let mut targets: Vec<_> =
        args.volumes_from.iter().map(|container| Target::VolumesFrom(container.clone())).collect();
    if !args.volume.is_empty() {
        targets.push(Target::Volumes(args.volume.clone()));
    }
    let options = options(context, &repository, false, &args.worker)?;
    let worker_image = args.worker.worker_image.as_deref();
    super::quiesce::with(context, &args.quiesce, args.dry_run, worker_image, |kept| {
        // While all hold still, so that dump and volumes are of one moment.
        let dumps = super::dump::beside(context, &repository, args)?;
        let options = WorkerOptions { dumps, ..options.clone() };
        let mut worst = ExitCode::Done;
        let count = targets.len();
        for (number, target) in targets.iter().enumerate() {
            let still = kept.map(|(_, keeper)| Stillness { keeper, is_last: number + 1 == count });
            let words = words(context, args, still.is_some())?;
            let status = context.runtime.block_on(async {
                let engine = Engine::connect(context.args.engine.as_deref()).await?;
                let on_line = &mut print_line;
                let shutdown = &context.shutdown;
                worker::back_up_still(&engine, &options, target, words, still, shutdown, on_line)
                    .await
            });
            worst = worst.or_worse(exit_code(status)?);
        }
        Ok(worst)
    })
}

/// The options of `create` that a worker gets.
fn words(
    context: &Context<'_>,
    args: &CreateArgs,
    is_attended: bool,
) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    if let Some(name) = &args.name {
        words.push(format!("--name={}", config::name(Some(name), String::new)?));
    }
    words.extend(args.tag.iter().map(|tag| format!("--tag={tag}")));
    words.extend(args.walk.exclude.iter().map(|glob| format!("--exclude={glob}")));
    words.extend(args.host.iter().map(|host| format!("--host={host}")));
    words.push(format!("--level={}", config::level(&args.compression)));
    let flags = [
        (args.walk.one_file_system, "--one-file-system"),
        (args.read_all, "--read-all"),
        (args.dry_run, "--dry-run"),
        (args.allow_live_database, "--allow-live-database"),
        (args.allow_change, "--allow-change"),
        (is_attended, "--attended"),
        (is_attended && args.quiesce.max_pause.is_some(), "--hot-pass"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
    words.extend(common_words(context));
    Ok(words)
}

/// How many snapshots the run makes.
fn targets_of(args: &CreateArgs) -> usize {
    args.volumes_from.len() + usize::from(!args.volume.is_empty())
}

#[derive(Debug, thiserror::Error)]
#[error("--name fits one snapshot, and this run makes several: leave it out, or run once for each")]
struct OneName;

#[derive(Debug, thiserror::Error)]
#[error(
    "--max-pause fits one snapshot, and this run makes several: leave it out, or run once for each"
)]
struct OneMoment;

#[derive(Debug, thiserror::Error)]
#[error("--dump fits one snapshot, and this run makes several: run once for each")]
struct OneDump;

/// Restores into a volume.
pub fn restore(
    context: &Context<'_>,
    args: &RestoreArgs,
    volume: &str,
) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (name, snapshot) = repository.select(named(args)?)?;
    let SelectionArgs { path, source } = &args.selection;
    let chosen = source_named(&snapshot, source.as_deref(), path).map_err(CommandError::usage)?;
    let whole = path.iter().all(|path| path.to_str() == Some(chosen.path.as_str()));
    refuse_loss(&snapshot, into(args), whole, args.force).map_err(CommandError::usage)?;
    let target = VolumeTarget {
        name: volume.to_owned(),
        recorded: chosen.volume.clone(),
        force: args.force,
        dry_run: args.dry_run,
    };
    let mut words = vec![name.id.to_string(), format!("--source={}", chosen.path)];
    for path in path.iter().filter(|path| path.to_str() != Some(chosen.path.as_str())) {
        let path = path
            .to_str()
            .ok_or_else(|| CommandError::usage(NotText(path.to_string_lossy().into_owned())))?;
        words.push(format!("--path={path}"));
    }
    let flags = [
        (args.replace, "--replace"),
        (args.delta, "--delta"),
        (args.force, "--force"),
        (args.dry_run, "--dry-run"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
    words.extend(common_words(context));
    let options = options(context, &repository, true, &args.worker)?;
    let status = context.runtime.block_on(async {
        let engine = Engine::connect(context.args.engine.as_deref()).await?;
        worker::restore_volume(
            &engine,
            &options,
            &target,
            words,
            &context.shutdown,
            &mut print_line,
        )
        .await
    });
    exit_code(status)
}

#[derive(Debug, thiserror::Error)]
#[error("--path {0} is not UTF-8: restore it with --target instead")]
struct NotText(String);

/// The common options a worker shares with its parent.
pub(super) fn common_words(context: &Context<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let args = context.args;
    words.extend(args.memory.iter().map(|memory| format!("--memory={memory}")));
    words.extend(args.threads.iter().map(|threads| format!("--threads={threads}")));
    words.push(format!("--log-format={}", args.log_format.resolved()));
    words.extend(args.no_cache.then(|| "--no-cache".to_owned()));
    words.extend(args.json.then(|| "--json".to_owned()));
    words.extend((0..args.verbose).map(|_| "--verbose".to_owned()));
    words.extend((0..args.quiet).map(|_| "--quiet".to_owned()));
    words
}

/// How a worker is made; one that `reads` content gets what decrypts it.
pub(super) fn options(
    context: &Context<'_>,
    opened: &Repository,
    reads: bool,
    args: &WorkerArgs,
) -> Result<WorkerOptions, CommandError> {
    let repository = context.location()?;
    let ring = opened.ring();
    let key_file = ring.key_file.map(|keys| Secret::new(keys.to_text().to_string()));
    let identity = (reads && !ring.identities.is_empty())
        .then(|| Secret::new(ring.identities.to_text().to_string()));
    let named = context.args.cache_dir.clone().filter(|_| !context.args.no_cache);
    Ok(WorkerOptions {
        image: args.worker_image.clone(),
        cache_dir_default: config::cache_directory(context.args, &repository),
        repository,
        s3: context.settings.s3.clone(),
        cache_dir: named,
        network: None,
        memory_bytes_max: None,
        dumps: Vec::new(),
        keys: WorkerKeys { key_file, identity },
    })
}

fn print_line(line: &str) {
    // The worker's own exit status says how it went, even if nobody reads along.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

fn of_worker(error: WorkerError) -> CommandError {
    match error {
        WorkerError::Quiesce(error) => super::quiesce::refused(error),
        error @ (WorkerError::Remote(_)
        | WorkerError::NoSources { .. }
        | WorkerError::NoVolumes
        | WorkerError::Hidden { .. }
        | WorkerError::InUse { .. }) => CommandError::usage(error),
        error => CommandError::failed(error),
    }
}

/// A worker's status is one of ours; anything else is the engine's word for a killed process.
fn exit_code(status: Result<i64, WorkerError>) -> Result<ExitCode, CommandError> {
    match status.map_err(of_worker)? {
        0 => Ok(ExitCode::Done),
        2 => Ok(ExitCode::Usage),
        3 => Ok(ExitCode::Warnings),
        130 => Ok(ExitCode::Interrupted),
        _ => Ok(ExitCode::Failed),
    }
}
