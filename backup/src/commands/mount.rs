//! `mount`.

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::MountArgs;

/// Shows snapshots as a directory until that is unmounted.
#[cfg(feature = "mount")]
pub fn run(context: &Context<'_>, args: &MountArgs) -> Result<ExitCode, CommandError> {
    use serde_json::json;

    use crate::mount::{MountError, MountOptions, Shown, free_directory, mount};
    use crate::text;

    let failed = |error: MountError| match error {
        MountError::Repository(error) => error.into(),
        error if error.is_usage() => CommandError::usage(error),
        error => CommandError::failed(error),
    };
    let directory = free_directory(&args.directory).map_err(failed)?;
    let repository = context.readable_repository()?;
    let shown = match &args.snapshot {
        None => Shown::All,
        Some(selector) => {
            let (name, snapshot) = repository.select(selector)?;
            Shown::One(name, snapshot.time)
        }
    };
    let options = MountOptions { directory, allow_other: args.allow_other };
    let ready = |mounted: crate::mount::Mounted| {
        let told = context.answer(
            || {
                let what = match &shown {
                    Shown::One(name, _) => name.id.short(),
                    Shown::All => format!(
                        "{} snapshots of {} names",
                        text::count(mounted.snapshots as u64),
                        text::count(mounted.names as u64)
                    ),
                };
                format!(
                    "mounted {what} on {}, read-only; `umount`, SIGINT or SIGTERM ends it",
                    options.directory.display()
                )
            },
            || {
                json!({
                    "event": "mounted", "directory": options.directory, "snapshots": mounted.snapshots,
                    "names": mounted.names,
                })
            },
        );
        told.map_err(std::io::Error::other)
    };
    let outcome = mount(&repository, &shown, &options, &context.runtime, &context.shutdown, ready);
    outcome.map_err(failed)?;
    Ok(ExitCode::Done)
}

/// Says what is missing.
#[cfg(not(feature = "mount"))]
pub fn run(_: &Context<'_>, _: &MountArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::usage(NoMount))
}

#[cfg(not(feature = "mount"))]
#[derive(Debug, thiserror::Error)]
#[error(
    "this build has no `mount`: build it with `cargo build --release -p backup --features mount`"
)]
struct NoMount;
