//! `forget`: snapshots that need not be kept.

use std::io::{self, Write};

use chores_common::exit::ExitCode;
use jiff::Timestamp;

use super::{CommandError, Context, prune};
use crate::cli::{ForgetArgs, GroupArg, PruneArgs};
use crate::config;
use crate::forget::decide::{GroupBy, Policy};
use crate::forget::{ForgetError, ForgetOptions, Wanted, forget, write_json, write_text};
use crate::machine::Boot;

/// Drops snapshots.
pub fn run(context: &Context<'_>, args: &ForgetArgs) -> Result<ExitCode, CommandError> {
    let now = Timestamp::now();
    let options = options(args, now)?;
    let repository = context.repository()?;
    let report = forget(&repository, &options, now, &context.shutdown);
    let report = report.map_err(|error| match error {
        ForgetError::Repository(error) => error.into(),
        error @ ForgetError::Interrupted(_) => CommandError::interrupted(error),
        error @ (ForgetError::Newest { .. } | ForgetError::NoRule) => CommandError::usage(error),
        error
        @ (ForgetError::Unreadable(..) | ForgetError::Stranger(_) | ForgetError::Raced(_)) => {
            CommandError::failed(error)
        }
    })?;
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        write_json(&report, &mut out)
    } else {
        write_text(&report, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    drop(out);
    let code = if report.frozen() == 0 { ExitCode::Done } else { ExitCode::Warnings };
    if !args.prune {
        return Ok(code);
    }
    // A dry run has not forgotten anything, so it prunes nothing of it either.
    let pruned = prune::run_on(context, &repository, &PruneArgs::usual(), args.dry_run, "prune")?;
    Ok(code.or_worse(pruned))
}

fn options(args: &ForgetArgs, now: Timestamp) -> Result<ForgetOptions, CommandError> {
    let group_by = match args.group_by {
        None => GroupBy::Unsaid,
        Some(GroupArg::Name) => GroupBy::Name,
        Some(GroupArg::Host) => GroupBy::Host,
    };
    let wanted = if args.snapshots.is_empty() {
        let mut tags = Vec::new();
        for text in &args.keep_tag {
            tags.extend(config::tags(std::slice::from_ref(text))?);
        }
        Wanted::ByRules(Policy {
            last: args.keep_last.unwrap_or(0),
            hourly: args.keep_hourly.unwrap_or(0),
            daily: args.keep_daily.unwrap_or(0),
            weekly: args.keep_weekly.unwrap_or(0),
            monthly: args.keep_monthly.unwrap_or(0),
            yearly: args.keep_yearly.unwrap_or(0),
            within: args.keep_within,
            tags,
            group_by,
            boot: args.own.own_boot.as_deref().and_then(|id| Boot::present(id, now)),
        })
    } else {
        Wanted::These { snapshots: args.snapshots.clone(), even_newest: args.even_newest, group_by }
    };
    let (name, host, tags) = (args.name.clone(), args.host.clone(), config::tags(&args.tag)?);
    let node = args.own.own_node.clone();
    Ok(ForgetOptions { wanted, name, host, tags, node, dry_run: args.dry_run })
}
