# shellcheck shell=bash
# Words to the person at the terminal; sourced by the scripts beside it.

say() { printf 'chores: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}
