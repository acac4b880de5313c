//! `SQLite`: files that are copied by its own online backup, while programs write.

use super::{Facts, PlanError, Script, Step, Target, Trailer, file_name};
use crate::snapshot::DumpRole;

/// The way back.
pub mod back;

/// Ending of the files.
pub const ENDING: &str = ".sqlite";

/// Tells the databases among the arguments: files are what they are, directories are searched. After `search`
/// as the first argument a file may be something else.
const PROBE: &str = r#"
is_database() { [ "$(head -c 15 "$1" 2>/dev/null)" = "SQLite format 3" ]; }
run() {
  mode=$1
  shift
  for root in "$@"; do
    if [ -d "$root" ]; then
      find "$root" -xdev -type f \( -name '*.db' -o -name '*.db3' -o -name '*.sqlite' -o -name '*.sqlite3' \) \
        -exec sh -c 'for file in "$@"; do
          [ "$(head -c 15 "$file" 2>/dev/null)" != "SQLite format 3" ] || printf "database=%s\0" "$file"
        done' sh {} + || exit 1
    elif is_database "$root"; then
      printf 'database=%s\0' "$root"
    elif [ "$mode" != search ]; then
      echo "$root is no SQLite database" >&2
      exit 1
    fi
  done
  pick sqlite3
  printf 'server=%s\0' "$(sqlite3 -version)"
}
"#;

/// With a transaction open the backup is of one moment, and programs that write meanwhile do not make it start
/// again (`sqlite3_backup_step`). The copy is in the container's own temporary directory.
const DUMP: &str = r#"
run() {
  pick sqlite3
  [ -f "$1" ] || { echo "there is no $1" >&2; exit 1; }
  work=$(mktemp -d) || exit 1
  trap 'rm -rf "$work"' EXIT
  trap 'exit 143' TERM
  sqlite3 -batch -bail "$1" '.timeout 60000' 'BEGIN' 'SELECT 1 FROM sqlite_master LIMIT 0' \
    ".backup '$work/copy'" 'COMMIT' >&2 || exit 1
  cat "$work/copy"
}
"#;

pub(super) fn probe(target: &Target) -> Result<Script, PlanError> {
    if let Some(word) = target.words.iter().find(|word| !word.starts_with('/')) {
        return Err(PlanError::Relative(word.clone()));
    }
    let (mode, paths) = match target.words.as_slice() {
        [] => ("search", target.mounts.as_slice()),
        words => ("named", words),
    };
    let args = std::iter::once(mode.to_owned()).chain(paths.iter().cloned()).collect();
    Ok(Script { args, ..Script::new(PROBE) })
}

pub(super) fn plan(target: &Target, facts: &Facts) -> Result<Vec<Step>, PlanError> {
    if facts.databases.is_empty() {
        return Err(PlanError::NoFiles(match target.mounts.as_slice() {
            [] => "the container's mounts: it has none".to_owned(),
            mounts => mounts.join(", "),
        }));
    }
    let steps = facts.databases.iter().map(|path| Step {
        file: format!("{}{ENDING}", file_name(path.trim_start_matches('/'))),
        role: DumpRole::File,
        database: Some(path.clone()),
        script: Script { args: vec![path.clone()], ..Script::new(DUMP) },
        trailer: Trailer::Sqlite,
    });
    Ok(steps.collect())
}
