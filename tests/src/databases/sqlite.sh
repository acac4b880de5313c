#!/bin/sh
# A service that keeps its SQLite database open in WAL mode as long as it runs.
set -eu
rm -f /tmp/statements
mkfifo /tmp/statements
sqlite3 /data/app.db "PRAGMA journal_mode=WAL" >/dev/null
sqlite3 /data/app.db < /tmp/statements &
writer=$!
exec 3> /tmp/statements
echo "CREATE TABLE IF NOT EXISTS opened (at TEXT); INSERT INTO opened VALUES (datetime());" >&3
# At the end of its input it closes the database.
trap 'exec 3>&-' TERM
while kill -0 "$writer" 2>/dev/null; do wait "$writer" || :; done
