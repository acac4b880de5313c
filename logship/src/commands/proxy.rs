//! `socket-proxy`: the parts of the engine's socket that a shipper needs.

use chores_common::engine::Host;
use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::SocketProxyArgs;
use crate::config::SettingError;
use crate::proxy::{self, Listen, ProxySettings};

/// Most that permissions can be.
const MODE_MAX: u32 = 0o777;

/// Serves until it is told to stop.
pub fn run(context: &Context<'_>, args: &SocketProxyArgs) -> Result<ExitCode, CommandError> {
    let listen = Listen::parse(&args.listen)
        .map_err(|fault| SettingError::flag("--listen", &args.listen, &fault))?;
    let engine = Host::parse(args.socket.as_deref()).map_err(|fault| {
        SettingError::flag("--socket", args.socket.as_deref().unwrap_or_default(), &fault)
    })?;
    let mode = u32::from_str_radix(&args.mode, 8).ok().filter(|mode| *mode <= MODE_MAX);
    let mode = mode.ok_or_else(|| {
        SettingError::flag("--mode", &args.mode, &"it is no octal number such as 0600")
    })?;
    let settings = ProxySettings { listen, mode, engine };
    let served = context.runtime.block_on(proxy::run(settings, &context.shutdown));
    served.map_err(CommandError::failed)?;
    Ok(ExitCode::Done)
}
