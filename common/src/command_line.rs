//! What the command line of every sidecar has: its parsing, completions, manual pages, the answer, the last words.

use std::error::Error;
use std::io::{self, Write};
use std::process;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use crate::exit::{ExitCode, chain};

#[cfg(test)]
mod tests;

/// The command line, or the code to end with: help and version are answered on standard output, wrong usage on
/// standard error, and who names no command is shown them all.
pub fn parse<C: Parser>() -> Result<C, process::ExitCode> {
    C::try_parse().map_err(|answer| {
        let code = if answer.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
        let printed = match commands(C::command(), &answer) {
            Some(help) => writeln!(io::stderr(), "{help}"),
            None => answer.print(),
        };
        if printed.is_ok() { code.into() } else { ExitCode::Failed.into() }
    })
}

/// The short help of the command to which only the name of one of its own is missing. The parser gives it by itself only where no
/// variable of the environment is set that stands for an option.
fn commands(mut command: clap::Command, answer: &clap::Error) -> Option<String> {
    let incomplete = match (answer.kind(), answer.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::MissingSubcommand, Some(ContextValue::String(incomplete))) => incomplete,
        _ => return None,
    };
    command.build();
    let mut found = &mut command;
    for word in incomplete.split(' ').skip(1) {
        found = found.find_subcommand_mut(word)?;
    }
    Some(found.render_help().to_string())
}

/// The script with which `shell` completes the words of this program.
#[must_use]
pub fn completions<C: CommandFactory>(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = C::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// There is no such manual page.
#[derive(Debug, thiserror::Error)]
#[error("there is no command {wanted}: `{program} --help` lists them")]
pub struct NoSuchCommand {
    wanted: String,
    program: String,
}

/// The manual pages (man(7)) of one command, or of the program and all its commands.
pub fn manual<C: CommandFactory>(
    wanted: Option<&str>,
) -> io::Result<Result<Vec<u8>, NoSuchCommand>> {
    let command = C::command();
    let chosen: Vec<_> = match wanted {
        None => std::iter::once(&command).chain(command.get_subcommands()).cloned().collect(),
        Some(wanted) => command
            .get_subcommands()
            .filter(|command| command.get_name() == wanted)
            .cloned()
            .collect(),
    };
    if let (Some(wanted), true) = (wanted, chosen.is_empty()) {
        let (wanted, program) = (wanted.to_owned(), command.get_name().to_owned());
        return Ok(Err(NoSuchCommand { wanted, program }));
    }
    let mut pages = Vec::new();
    for command in chosen {
        clap_mangen::Man::new(command).render(&mut pages)?;
    }
    Ok(Ok(pages))
}

/// Writes bytes as the answer.
pub fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush())
}

/// Says why `program` ends.
pub fn report(program: &str, error: &dyn Error) {
    // When even standard error is gone, the exit code is all that is left.
    drop(writeln!(io::stderr(), "{program}: {}", chain(error)));
}
