//! Redis and Valkey.

use chores_common::secret::Secret;

use super::{Script, Step, Target, Trailer, value_of};
use crate::snapshot::DumpRole;

/// Name of the one file.
pub const FILE: &str = "dump.rdb";

/// Sets the password for `redis-cli`: that of the environment, of the server's command, of its configuration.
/// Arguments: the port of the command, which is empty where it says none and wins over that of the file; the
/// configuration file if one is known.
macro_rules! login {
    () => {
        r#"
login() {
  value=${REDISCLI_AUTH-}
  for name in REDIS_PASSWORD VALKEY_PASSWORD; do [ -n "$value" ] || from "$name"; done
  [ -n "$value" ] || value=${secret-}
  port=$1 file=${2-} configured=
  if [ -n "$file" ] && [ -r "$file" ]; then
    while read -r key word _; do
      word=${word#[\"\']} word=${word%[\"\']}
      case $key in
        requirepass) [ -n "$value" ] || value=$word ;;
        port) configured=$word ;;
      esac
    done <"$file"
  fi
  [ -z "$value" ] || export REDISCLI_AUTH="$value" VALKEYCLI_AUTH="$value"
  pick redis-cli valkey-cli keydb-cli
  host=${dump_host:-127.0.0.1} port=${dump_port:-${port:-${configured:-6379}}}
}
"#
    };
}

/// The way back.
pub mod back;

/// `redis-cli` ends with 0 even where the server refuses; so the answer is looked at.
const PROBE: &str = concat!(
    login!(),
    r#"
run() {
  login "$@"
  answer=$("$program" -h "$host" -p "$port" INFO) || exit 1
  case $answer in
    *redis_version:*) ;;
    *) echo "$answer" >&2; exit 1 ;;
  esac
  echo "$answer" | while IFS=: read -r key word; do
    case $key:$word in
      redis_version:* | valkey_version:*) echo "server=$word" ;;
      cluster_enabled:1*)
        echo "warning=the server is a node of a cluster: only the keys it holds itself are in the dump" ;;
    esac
  done
}
"#
);

const DUMP: &str = concat!(
    login!(),
    r#"
run() {
  login "$@"
  exec "$program" -h "$host" -p "$port" --rdb -
}
"#
);

/// The arguments and the secret that `login` takes for this target.
pub fn login(target: &Target) -> (Vec<String>, Option<Secret>) {
    let script = script("", target);
    (script.args, script.secret)
}

fn script(lines: &'static str, target: &Target) -> Script {
    let port = value_of(&target.command, "--port");
    let port = port.as_ref().map_or("", |port| port.expose());
    let is_server = |word: &&String| word.ends_with("-server");
    let file = target.command.iter().skip_while(|word| !is_server(word)).nth(1);
    let file = file.filter(|word| word.starts_with('/'));
    Script {
        args: std::iter::once(port.to_owned()).chain(file.cloned()).collect(),
        secret: value_of(&target.command, "--requirepass"),
        ..Script::new(lines)
    }
}

pub(super) fn probe(target: &Target) -> Script {
    script(PROBE, target)
}

pub(super) fn plan(target: &Target) -> Vec<Step> {
    let direct = ["redis-cli", "--rdb", "-"].map(str::to_owned).to_vec();
    vec![Step {
        file: FILE.to_owned(),
        role: DumpRole::Rdb,
        database: None,
        script: Script { direct: Some(direct), ..script(DUMP, target) },
        trailer: Trailer::Rdb,
    }]
}
