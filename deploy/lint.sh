#!/usr/bin/env bash
# The checks of `make lint` beyond rustfmt and clippy: dependencies (deny.toml) and shell scripts.
set -euo pipefail
cd "$(dirname "$0")/.."

ADVISORY_FETCH_SECONDS_MAX=60

PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# shellcheck source=deploy/say.sh
. deploy/say.sh

if command -v cargo-deny >/dev/null; then
    cargo deny --log-level error check bans licenses sources
    if timeout "$ADVISORY_FETCH_SECONDS_MAX" cargo deny fetch db >/dev/null 2>&1; then
        cargo deny --log-level error check --disable-fetch advisories
    else
        say "advisories not checked: the RustSec database could not be fetched from here"
    fi
else
    say "dependencies not checked: cargo-deny is missing"
fi

if command -v shellcheck >/dev/null; then
    find . \( -path ./target -o -path ./.git \) -prune -o \( -name '*.sh' -o -path ./.ci/run \) -print0 |
        xargs -0 shellcheck --external-sources
else
    say "scripts not checked: shellcheck is missing"
fi
