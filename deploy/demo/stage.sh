# shellcheck shell=bash
# What every part of the demo stands on: its names, its way of showing commands, a small image. Sourced.
#
# Every name is the demo's own, so it disturbs nobody and can run twice at once.

# Sourced by every part; set once.
if [ -z "${scratch:-}" ]; then
    # shellcheck source=deploy/say.sh
    . deploy/say.sh

    id=chores-demo-$$-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
    scratch=$(mktemp -d)
    target_image=$id
fi

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Shows a command as one would type it, runs it, and tells how long it took.
play() {
    local began=$EPOCHREALTIME code=0
    printf '  $ %s\n' "${*//$id-/}"
    "$@" 2>&1 | sed "s/$id-//g; s/^/    /" || code=$?
    awk -v began="$began" -v ended="$EPOCHREALTIME" 'BEGIN { printf "    (%.2f s)\n", ended - began }'
    return "$code"
}

# An image of nothing but busybox: no registry is asked for anything.
build_target_image() {
    local context=$scratch/target name
    mkdir -p "$context/bin"
    for name in $(busybox --list); do ln -s busybox "$context/bin/$name"; done
    rm -f "$context/bin/busybox"
    cp "$(command -v busybox)" "$context/bin/busybox"
    printf 'FROM scratch\nCOPY bin /bin\nCMD ["/bin/sleep", "3600"]\n' >"$context/Dockerfile"
    local words
    words=$(docker build --quiet --tag "$target_image" "$context" 2>&1) || fail "docker build: $words"
}

engine_socket() {
    case ${DOCKER_HOST:-} in
        unix://*) printf '%s' "${DOCKER_HOST#unix://}" ;;
        *) printf '/var/run/docker.sock' ;;
    esac
}
