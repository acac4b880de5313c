//! A dump back into Redis or Valkey.
//!
//! No client loads an RDB file into a running server. So a second server is started beside it, in the same
//! container, on the dump; the first one becomes its replica, which replaces all it has once the copy has
//! arrived whole (<https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>), and is then
//! its own master again. Files of the first one, append-only or not, are written by itself.

/// `ask` the server, `other` the second one.
macro_rules! ask {
    () => {
        r#"
ask() { "$client" -h "$host" -p "$port" "$@" | tr -d '\r'; }
other() (
  unset REDISCLI_AUTH VALKEYCLI_AUTH
  "$client" -h 127.0.0.1 -p "$second" "$@" 2>/dev/null | tr -d '\r'
)
begin() {
  login "$@"
  client=$program
}
keys() { sed -n 's/^\(db[0-9]*\):keys=\([0-9]*\),.*/\1=\2/p'; }
"#
    };
}

/// Tells the databases that hold keys (`occupied=`).
pub const OCCUPIED: &str = concat!(
    login!(),
    ask!(),
    r#"
run() {
  begin "$@"
  info=$(ask INFO)
  case $info in
    *redis_version:*) ;;
    *) printf '%s\n' "$info" >&2; exit 1 ;;
  esac
  case $info in
    *role:master*) ;;
    *) echo "it is a replica: restore into its master" >&2; exit 1 ;;
  esac
  case $info in
    *cluster_enabled:1*) echo "it is a node of a cluster, which takes no dump of one server" >&2; exit 1 ;;
  esac
  printf '%s\n' "$info" | keys | sed 's/=.*//; s/^/occupied=/'
}
"#
);

/// Arguments: port and configuration file as for a dump, empty where there is none; the length of the dump. A
/// server that takes no copy for a minute in all gets its own data back; a password for masters is put back too.
pub const RESTORE: &str = concat!(
    login!(),
    ask!(),
    r#"
again() { [ -z "$auth" ] || printf '%s' "$auth" | "$client" -h "$host" -p "$port" -x CONFIG SET masterauth >/dev/null; }
end() { [ -z "$started" ] || { kill "$started" 2>/dev/null; wait "$started"; }; }
run() {
  begin "$1" "$2"
  pick redis-server valkey-server keydb-server
  server=$program
  work=$(mktemp -d) || exit 1
  started=
  trap 'end; rm -rf "$work"' EXIT
  trap 'exit 143' TERM
  cat >"$work/dump.rdb" || exit 1
  [ "$(wc -c <"$work/dump.rdb")" -eq "$3" ] || { echo "only a part of the dump arrived" >&2; exit 1; }
  if command -v redis-check-rdb >/dev/null 2>&1; then
    redis-check-rdb "$work/dump.rdb" >"$work/check" 2>&1 || { tail -n 5 "$work/check" >&2; exit 1; }
  fi
  second=$((port > 40000 ? port - 10000 : port + 10000))
  databases=$(ask CONFIG GET databases | sed -n 2p)
  case $databases in '' | *[!0-9]*) databases=16 ;; esac
  "$server" --port "$second" --bind 127.0.0.1 --dir "$work" --dbfilename dump.rdb --save '' --appendonly no \
    --databases "$databases" --daemonize no --repl-diskless-sync-delay 0 >"$work/log" 2>&1 </dev/null &
  started=$!
  until [ "$(other PING)" = PONG ]; do
    kill -0 "$started" 2>/dev/null || { tail -n 5 "$work/log" >&2; exit 1; }
    sleep 1
  done
  [ "$(other CONFIG GET dir | sed -n 2p)" = "$(cd "$work" && pwd -P)" ] ||
    { echo "a stranger answers at port $second, which the second server needs" >&2; exit 1; }
  auth=$(ask CONFIG GET masterauth | sed -n 2p)
  trap 'ask REPLICAOF NO ONE >/dev/null; again; end; rm -rf "$work"' EXIT
  [ -z "$auth" ] || ask CONFIG SET masterauth '' >/dev/null
  answer=$(ask REPLICAOF 127.0.0.1 "$second")
  [ "$answer" = OK ] || { printf '%s\n' "$answer" >&2; exit 1; }
  idle=0
  while :; do
    info=$(ask INFO replication)
    case $info in
      *master_sync_in_progress:1*) ;;
      *master_link_status:up*) break ;;
      *) idle=$((idle + 1)) ;;
    esac
    [ "$idle" -lt 60 ] ||
      { echo "the server takes no copy, its log says why: is its disk full, or may it not write its directory?" >&2; exit 1; }
    kill -0 "$started" 2>/dev/null || { echo "the second server ended before the copy was whole" >&2; exit 1; }
    sleep 1
  done
  answer=$(ask REPLICAOF NO ONE)
  [ "$answer" = OK ] || { printf '%s\n' "$answer" >&2; exit 1; }
  again
  trap 'end; rm -rf "$work"' EXIT
  ask INFO keyspace | keys | sed 's/^/rows=/'
}
"#
);

/// Whether it answers.
pub const READY: &str = concat!(
    login!(),
    ask!(),
    r#"
run() {
  begin "$@"
  [ "$(ask PING)" = PONG ]
}
"#
);

/// Tells the data directory (`directory=`), counts the keys of every database, then has all of them written to a file
/// again and that checked.
pub const CHECK: &str = concat!(
    login!(),
    ask!(),
    r#"
run() {
  begin "$@"
  printf 'directory=%s\n' "$(ask CONFIG GET dir | sed -n 2p)"
  ask INFO keyspace | keys | sed 's/^/rows=/'
  answer=$(ask SAVE)
  [ "$answer" = OK ] || { printf '%s\n' "$answer" >&2; exit 1; }
  command -v redis-check-rdb >/dev/null 2>&1 || { echo checked=save; exit 0; }
  file=$(ask CONFIG GET dir | tail -n 1)/$(ask CONFIG GET dbfilename | tail -n 1)
  redis-check-rdb "$file" >&2 || exit 1
  echo checked=redis-check-rdb
}
"#
);
