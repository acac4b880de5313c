//! `serve-ui`, and what `run --ui` has in common with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::{Credentials, ServeUiArgs, UiAccessArgs};
use crate::config::{self, SettingError};
use crate::ui::access::AccessSettings;
use crate::ui::{Subject, Ui, UiError, UiSettings};

#[derive(Debug, thiserror::Error)]
#[error("there is no log in {}", .0.display())]
struct NoLog(PathBuf);

/// How the page is served.
pub fn settings(
    listen: SocketAddr,
    archives: &[String],
    access: &UiAccessArgs,
) -> Result<UiSettings, SettingError> {
    Ok(UiSettings {
        listen,
        access: AccessSettings {
            token_file: access.ui_token_file.clone(),
            hosts: access.ui_host.clone(),
            user_header: access.ui_user_header.clone(),
            proxies: access.ui_proxy.clone(),
        },
        archives: archives.to_vec(),
        s3: config::s3(Credentials::from_environment())?,
    })
}

/// Why there is no page.
#[must_use]
pub fn failed(error: UiError) -> CommandError {
    match error {
        UiError::Access(error) => CommandError::usage(error),
        error => CommandError::failed(error),
    }
}

/// Shows what another process ships, until it is told to stop.
pub fn serve(context: &Context<'_>, args: &ServeUiArgs) -> Result<ExitCode, CommandError> {
    let state = context.state()?;
    if !state.is_dir() {
        return Err(CommandError::usage(NoLog(state)));
    }
    let settings = settings(args.listen, &args.archive, &args.access)?;
    let page = Ui::start(settings, Subject::State(state), &context.runtime).map_err(failed)?;
    context.runtime.block_on(context.shutdown.wait());
    drop(page);
    Ok(ExitCode::Done)
}
