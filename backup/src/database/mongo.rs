//! MongoDB. Debian has no package of it: what is here follows the manual of `mongodump` and the specification
//! of its archive, and is tested with a program that plays `mongodump`.

use super::{Script, Step, Trailer};
use crate::snapshot::DumpRole;

/// Name of the one file.
pub const FILE: &str = "archive";

/// Sets `user`, and `quoted` to the password as a YAML string.
macro_rules! login {
    () => {
        r#"
login() {
  from MONGO_INITDB_ROOT_USERNAME
  [ -n "$value" ] || from MONGODB_ROOT_USER
  user=$value quoted=
  from MONGO_INITDB_ROOT_PASSWORD
  [ -n "$value" ] || from MONGODB_ROOT_PASSWORD
  [ -z "$value" ] || [ -n "$user" ] || user=root
  while :; do
    case $value in
      *\'*) quoted="$quoted${value%%\'*}''" value=${value#*\'} ;;
      *) quoted=$quoted$value; break ;;
    esac
  done
}
"#
    };
}

/// The way back.
pub mod back;

const PROBE: &str = r#"
run() {
  pick mongodump
  mongodump --version | while read -r word; do
    case $word in "mongodump version:"*) echo "server=$word" ;; esac
  done
}
"#;

/// The password is in a file that exists for the program only (`--config`, from version 100.3 of the tools on).
const DUMP: &str = concat!(
    login!(),
    r#"
run() {
  pick mongodump
  login
  set -- --archive
  [ -z "${dump_host-}" ] || set -- "$@" --host="$dump_host" --port="$dump_port"
  [ -n "$user" ] || exec mongodump "$@"
  exec mongodump "$@" --username="$user" --authenticationDatabase=admin --config=/dev/fd/4 4<<END
password: '$quoted'
END
}
"#
);

pub(super) fn probe() -> Script {
    Script::new(PROBE)
}

pub(super) fn plan() -> Vec<Step> {
    vec![Step {
        file: FILE.to_owned(),
        role: DumpRole::Archive,
        database: None,
        script: Script::new(DUMP),
        trailer: Trailer::Mongo,
    }]
}
