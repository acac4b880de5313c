//! Shell lines that work on a database in its container and may be fed with a dump.
//!
//! Standard input is the dump, so unlike [`super::shell`] nothing watches it: a feeder that dies is the end of
//! the input, and the lines of each kind see to it that a dump cut there is not taken for a whole one. Behind
//! the output stands a mark that nobody can guess, with the exit code and the number of bytes that were left.

use chores_common::secret::Secret;

use super::shell::{self, FUNCTIONS, TAKE_SECRET};

/// Name under which the shell runs.
const SHELL_NAME: &str = "chores-restore";

/// Runs `run` with all arguments but the first, which is the mark. What a client that ended well did not read
/// is counted; one that failed is not waited for.
const AROUND: &str = r#"
mark=$1
shift
( run "$@" )
code=$?
rest=0
[ "$code" -ne 0 ] || rest=$(wc -c)
printf '\n%s %d %d\n' "$mark" "$code" "$rest"
"#;

/// Lines for the target's shell.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// Lines that define the function `run`.
    pub lines: &'static str,
    /// Arguments of `run`.
    pub args: Vec<String>,
    /// What `run` finds as `$secret`; it goes by standard input, before the dump.
    pub secret: Option<Secret>,
}

impl Feed {
    /// Lines with arguments.
    #[must_use]
    pub fn new(lines: &'static str, args: Vec<String>) -> Self {
        Self { lines, args, secret: None }
    }

    /// The words to execute; `mark` is what will stand behind the output.
    #[must_use]
    pub fn words(&self, mark: &str) -> Vec<String> {
        let secret = if self.secret.is_some() { TAKE_SECRET } else { "" };
        let text = format!("{secret}{FUNCTIONS}{}{AROUND}", self.lines);
        shell::words("/bin/sh", text, SHELL_NAME, mark, &self.args)
    }

    /// What the lines read before anything else.
    #[must_use]
    pub fn input(&self) -> Option<Secret> {
        self.secret.as_ref().map(shell::first_line)
    }
}
