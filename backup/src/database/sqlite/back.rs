//! Database files of SQLite back at their places.

/// `users` tells which processes of this container have a file, or its log, open.
macro_rules! users {
    () => {
        r#"
users() {
  for link in /proc/[0-9]*/fd/*; do
    target=$(readlink "$link" 2>/dev/null) || continue
    case $target in
      "$1" | "$1-wal" | "$1-shm" | "$1-journal") number=${link#/proc/}; echo "${number%%/*}" ;;
    esac
  done | sort -u
}
"#
    };
}

/// Tells those of the files that are there already (`occupied=`); ones that a process has open are refused
/// whatever was asked for.
pub const OCCUPIED: &str = concat!(
    users!(),
    r#"
run() {
  for file in "$@"; do
    [ -d "${file%/*}/" ] || { echo "there is no directory ${file%/*} here" >&2; exit 1; }
    file=$(readlink -f "$file") || exit 1
    [ ! -e "$file" ] || printf 'occupied=%s\n' "$file"
    using=$(users "$file")
    [ -z "$using" ] || { echo "$file is open in process" $using "of the container: end what uses it (a stopped container can be restored into as well)" >&2; exit 1; }
  done
}
"#
);

/// Arguments: the file, the length of the dump, `make` where its directory may be missing. The new file is
/// whole on disk before the old one gives way; the log of the old one must not be found beside the new one, and goes
/// `back` where the new one does not come.
pub const RESTORE: &str = concat!(
    users!(),
    r#"
back() {
  [ -z "$aside" ] || for part in -wal -shm -journal; do
    [ ! -e "$file.chores-old$part" ] || mv "$file.chores-old$part" "$file$part"
  done
}
run() {
  file=$1
  [ "$3" != make ] || mkdir -p "${file%/*}/" || exit 1
  file=$(readlink -f "$file") || exit 1
  new=$file.chores-new aside=
  trap 'back; rm -f "$new"' EXIT
  trap 'exit 143' TERM
  like=$file
  [ -e "$file" ] || like=${file%/*}/
  umask 077
  cat >"$new" || exit 1
  [ "$(wc -c <"$new")" -eq "$2" ] || { echo "only a part of the dump arrived" >&2; exit 1; }
  if command -v sqlite3 >/dev/null 2>&1; then
    said=$(sqlite3 -batch "$new" 'PRAGMA integrity_check(5)' 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
    [ "$said" = ok ] || { printf '%s\n' "$said" >&2; exit 1; }
    rm -f "$new-wal" "$new-shm" "$new-journal"
  fi
  chown "$(stat -c %u:%g "$like")" "$new" || exit 1
  if [ -e "$file" ]; then chmod "$(stat -c %a "$file")" "$new"; else chmod 0644 "$new"; fi || exit 1
  sync
  using=$(users "$file")
  [ -z "$using" ] || { echo "$file is open in process" $using >&2; exit 1; }
  aside=yes
  for part in -wal -shm -journal; do
    [ ! -e "$file$part" ] || mv "$file$part" "$file.chores-old$part" || exit 1
  done
  mv -f "$new" "$file" || exit 1
  aside=
  rm -f "$file.chores-old-wal" "$file.chores-old-shm" "$file.chores-old-journal"
  sync
}
"#
);

/// Checks the files that are named and counts the rows of their tables.
pub const CHECK: &str = r#"
run() {
  pick sqlite3
  for file in "$@"; do
    said=$(sqlite3 -batch -readonly "$file" 'PRAGMA integrity_check(5)' 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
    [ "$said" = ok ] || { printf '%s\n' "$said" >&2; exit 1; }
    counts=$(sqlite3 -batch -readonly "$file" <<'END'
SELECT 'SELECT ' || quote('rows=' || name || '=') || ' || count(*) FROM "' || replace(name, '"', '""') || '";'
  FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE 'CREATE VIRTUAL TABLE%'
  ORDER BY name;
END
    ) || exit 1
    printf '%s\n' "$counts" | sqlite3 -batch -bail -readonly "$file" || exit 1
  done
  echo checked=integrity_check
}
"#;
