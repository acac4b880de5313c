#!/usr/bin/env bash
# Builds the release binary and the image chores/backup, tagged with the version and `latest`.
#
#   deploy/images.sh            both
#   deploy/images.sh --binary   only the binary; no engine is needed
#
# Prints the path of the binary last. Fails when the binary is not static or larger than promised.
set -euo pipefail
cd "$(dirname "$0")/.."

BINARY_BYTES_MAX=25000000

# shellcheck source=deploy/say.sh
. deploy/say.sh

# The interpreter or a library a dynamically linked program asks for; nothing for a static one.
dynamic_needs() {
    readelf --wide --program-headers --dynamic "$1" | grep -E 'INTERP|\(NEEDED\)' || true
}

cargo build --release --locked -p backup
binary=${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/release/backup
version=$(cargo pkgid -p backup | sed 's/.*[#@]//')

bytes=$(stat -c %s "$binary")
[ "$bytes" -le "$BINARY_BYTES_MAX" ] || fail "$binary has $bytes bytes: more than the $BINARY_BYTES_MAX promised"
needs=$(dynamic_needs "$binary")
[ -z "$needs" ] || fail "$binary is not static: $needs"
say "$binary: static, $bytes bytes"

if [ "${1:-}" != --binary ]; then
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    cp "$binary" "$context/backup"
    strip --strip-all "$context/backup"
    cp deploy/Dockerfile "$context/Dockerfile"
    former=$(docker image inspect --format '{{.Id}}' chores/backup:latest 2>/dev/null || true)
    # Its words only matter when it fails: engines differ in what they print on the way.
    words=$(docker build --quiet --build-arg "VERSION=$version" \
        --tag "chores/backup:$version" --tag chores/backup:latest "$context" 2>&1) || fail "docker build: $words"
    # Without force an image that a container uses, or that has another name, stays.
    if [ -n "$former" ] && [ "$former" != "$(docker image inspect --format '{{.Id}}' chores/backup:latest)" ]; then
        docker rmi "$former" >/dev/null 2>&1 || true
    fi
    say "image chores/backup:$version, also tagged latest"
fi
printf '%s\n' "$binary"
