#!/usr/bin/env bash
# Builds release binaries and their images chores/PROGRAM, tagged with the version and `latest`.
#
#   deploy/images.sh [--binary] [PROGRAM…]     all programs unless named; --binary: no image, no engine needed
#   deploy/images.sh backup-dbclients          backup beside the clients of databases, on a Debian made by debootstrap
#
# Prints the paths of the binaries last, one a line. Fails when one is not static or larger than promised.
set -euo pipefail
cd "$(dirname "$0")/.."

BINARY_BYTES_MAX=25000000
PROGRAMS=(backup logship ssh-gateway)

# shellcheck source=deploy/say.sh
. deploy/say.sh
# shellcheck source=deploy/debian.sh
. deploy/debian.sh

# The interpreter or a library a dynamically linked program asks for; nothing for a static one.
dynamic_needs() {
    readelf --wide --program-headers --dynamic "$1" | grep -E 'INTERP|\(NEEDED\)' || true
}

check_binary() {
    local binary=$1 bytes needs
    bytes=$(stat -c %s "$binary")
    [ "$bytes" -le "$BINARY_BYTES_MAX" ] || fail "$binary has $bytes bytes: more than the $BINARY_BYTES_MAX promised"
    needs=$(dynamic_needs "$binary")
    [ -z "$needs" ] || fail "$binary is not static: $needs"
    say "$binary: static, $bytes bytes"
}

build_image() {
    local program=$1 binary=$2 version context former words name
    name=$(basename "$binary")
    version=$(cargo pkgid -p "$name" | sed 's/.*[#@]//')
    context=$scratch/$program
    mkdir "$context"
    cp "$binary" "$context/$name"
    strip --strip-all "$context/$name"
    cp "deploy/$program.Dockerfile" "$context/Dockerfile"
    if [ "$program" = ssh-gateway ]; then
        deploy/toolbox.sh "$scratch/toolbox"
        tar --create --file "$context/toolbox.tar" --directory "$scratch/toolbox" \
            --owner=0 --group=0 --numeric-owner --sort=name .
    fi
    former=$(docker image inspect --format '{{.Id}}' "chores/$program:latest" 2>/dev/null || true)
    # Its words only matter when it fails: engines differ in what they print on the way.
    words=$(docker build --quiet --build-arg "VERSION=$version" \
        --tag "chores/$program:$version" --tag "chores/$program:latest" "$context" 2>&1) || fail "docker build: $words"
    # Without force an image that a container uses, or that has another name, stays.
    if [ -n "$former" ] && [ "$former" != "$(docker image inspect --format '{{.Id}}' "chores/$program:latest")" ]; then
        docker rmi "$former" >/dev/null 2>&1 || true
    fi
    say "image chores/$program:$version, also tagged latest"
}

# The packages of the image with clients, from the mirror this machine uses.
DBCLIENTS=mariadb-client,postgresql-client,redis-tools,sqlite3,ca-certificates

with_images=yes
if [ "${1:-}" = --binary ]; then
    with_images=
    shift
fi
with_dbclients=
if [ "${1:-}" = backup-dbclients ]; then
    with_dbclients=yes
    set -- backup
fi
[ $# = 0 ] || PROGRAMS=("$@")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
built=${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/release
packages=()
for program in "${PROGRAMS[@]}"; do packages+=(-p "$program"); done
cargo build --release --locked "${packages[@]}"
for program in "${PROGRAMS[@]}"; do
    check_binary "$built/$program"
    if [ -n "$with_images" ]; then build_image "$program" "$built/$program"; fi
done
if [ -n "$with_dbclients" ]; then
    why=$(provide_debian chores/dbclients-base "$DBCLIENTS" "$scratch") || fail "$why"
    build_image backup-dbclients "$built/backup"
fi
for program in "${PROGRAMS[@]}"; do printf '%s\n' "$built/$program"; done
