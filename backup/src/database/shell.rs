//! Shell lines around a program in the target: they tell its real end, and end it when nobody listens.
//!
//! The engine can cut the tail of an output and still report exit code 0, and it does not end a program whose
//! client is gone. So behind the last byte stands a mark that nobody can guess, with the exit code; and when
//! standard input ends, which the death of this process brings about, the whole process group is ended.
//! POSIX sh only: dash, bash, busybox.

use chores_common::secret::Secret;

/// Name under which the shell runs.
const SHELL_NAME: &str = "chores-dump";

/// Functions that all scripts may use:
///
/// * `from NAME` sets `value` to `$NAME` or, if that is empty, to the first line of the file `$NAME_FILE`;
/// * `pick NAME…` sets `program` to the first of these that is there.
pub(super) const FUNCTIONS: &str = r#"
from() {
  eval "value=\${$1-} file=\${$1_FILE-}"
  [ -n "$value" ] || [ -z "$file" ] && return
  value=
  [ -r "$file" ] || { echo "cannot read $file, the file that $1_FILE names" >&2; exit 1; }
  IFS= read -r value <"$file" || [ -n "$value" ] || { echo "$file, the file that $1_FILE names, is empty" >&2; exit 1; }
}
pick() {
  for program in "$@"; do command -v "$program" >/dev/null 2>&1 && return; done
  echo "there is no $* here" >&2
  exit 127
}
"#;

/// Runs `run` with all arguments but the first, which is the mark. A program that ignores SIGTERM is killed
/// after five seconds.
///
/// Everything started here is waited for here: what is left goes to the first process of the container, and a
/// PostgreSQL server takes the death of a stranger by a signal for a crash and ends all its sessions. The shell
/// itself says that a child was terminated: where nobody reads that any more, SIGPIPE must not end it before the rest.
const AROUND: &str = r#"
mark=$1 cut=
shift
exec 3<&0 </dev/null
trap 'cut=1' TERM
run "$@" 3<&- &
child=$!
(
  while read -r _; do :; done
  trap '' TERM
  kill -TERM 0
  for _ in 1 2 3 4 5; do
    sleep 1
    kill -0 "$child" || exit 0
  done
  kill -KILL "$child"
  exit 0
) <&3 >/dev/null 2>&1 &
watch=$!
trap '' PIPE
exec 3<&-
wait "$child"
code=$?
while [ -n "$cut" ] && kill -0 "$child" 2>/dev/null; do wait "$child"; done
if [ -n "$cut" ]; then
  wait "$watch"
  kill -KILL 0
fi
kill -KILL "$watch" 2>/dev/null
wait "$watch" 2>/dev/null
printf '\n%s %d\n' "$mark" "$code"
"#;

/// Reads the first line of standard input into the variable `secret`.
pub(super) const TAKE_SECRET: &str = "IFS= read -r secret\n";

/// A program in the target, by way of its shell.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Lines that define the function `run`.
    pub lines: &'static str,
    /// Arguments of `run`.
    pub args: Vec<String>,
    /// What `run` finds as `$secret`: it goes by standard input, so that no command line shows it.
    pub secret: Option<Secret>,
    /// The same without a shell, where that is possible.
    pub direct: Option<Vec<String>>,
}

impl Script {
    /// A script without arguments.
    #[must_use]
    pub fn new(lines: &'static str) -> Self {
        Self { lines, ..Self::default() }
    }

    /// The words to execute; `mark` is what will stand behind the output.
    #[must_use]
    pub fn words(&self, mark: &str) -> Vec<String> {
        let secret = if self.secret.is_some() { TAKE_SECRET } else { "" };
        let text = format!("{secret}{FUNCTIONS}{}{AROUND}", self.lines);
        words("sh", text, SHELL_NAME, mark, &self.args)
    }

    /// What the script reads before anything else.
    #[must_use]
    pub fn input(&self) -> Option<Secret> {
        self.secret.as_ref().map(first_line)
    }
}

/// A shell that runs `text` under a name, with a mark and then `args`.
pub(super) fn words(
    shell: &str,
    text: String,
    name: &str,
    mark: &str,
    args: &[String],
) -> Vec<String> {
    let mut words = vec![shell.to_owned(), "-c".to_owned(), text, name.to_owned(), mark.to_owned()];
    words.extend(args.iter().cloned());
    words
}

/// A secret as [`TAKE_SECRET`] reads it.
pub(super) fn first_line(secret: &Secret) -> Secret {
    Secret::new(format!("{}\n", secret.expose()))
}
