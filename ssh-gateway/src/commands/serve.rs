//! `serve`: letting clients in.

use chores_common::exit::ExitCode;

use super::CommandError;
use crate::authorized_keys::AuthorizedKeys;
use crate::cli::{CommonArgs, Environment, ServeArgs};
use crate::config::Config;
use crate::host_keys::HostKeys;
use crate::policy;

/// Serves until told to stop.
pub fn run(common: &CommonArgs, args: &ServeArgs) -> Result<ExitCode, CommandError> {
    let config = Config::for_serve(common, args, Environment::of_process())?;
    let accepted = config.accept_environment.clone();
    let accepts = move |name: &str| policy::accepts_variable(&accepted, name);
    let keys = AuthorizedKeys::load(&config.keys, &accepts)?;
    for fault in keys.faults() {
        tracing::warn!("{fault}");
    }
    let host_keys = HostKeys::load_or_make(&config.state)?;
    for fingerprint in host_keys.fingerprints() {
        tracing::info!("host key {fingerprint}");
    }
    Err(CommandError::failed(NotYet))
}

#[derive(Debug, thiserror::Error)]
#[error("ssh-gateway cannot accept connections yet")]
struct NotYet;
