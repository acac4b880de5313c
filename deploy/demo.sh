#!/usr/bin/env bash
# Plays the chores for real with throw-away containers: see deploy/demo for each. Without an engine the parts that
# need none are played with folders. All of it is removed on every way out; the images chores/… stay.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=deploy/demo/stage.sh
. deploy/demo/stage.sh
# shellcheck source=deploy/demo/backup.sh
. deploy/demo/backup.sh
# shellcheck source=deploy/demo/database.sh
. deploy/demo/database.sh
# shellcheck source=deploy/demo/logship.sh
. deploy/demo/logship.sh
# shellcheck source=deploy/demo/ssh-gateway.sh
. deploy/demo/ssh-gateway.sh

clean_up() {
    local code=$?
    trap - EXIT
    if [ -n "${with_engine:-}" ]; then
        clean_up_database
        clean_up_backup
        clean_up_logship
        clean_up_ssh_gateway
        docker rmi --force "$target_image" >/dev/null 2>&1 || true
    fi
    rm -rf "$scratch"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

began=$SECONDS
if command -v docker >/dev/null && timeout 20 docker version >/dev/null 2>&1; then
    deploy/images.sh >/dev/null
    with_engine=yes
    build_target_image
    demo_of_a_volume
    demo_of_a_database
    demo_of_logs
    demo_of_a_gateway
else
    say "no container engine answers: the parts without containers are played; ssh-gateway has none"
    binary=$(deploy/images.sh --binary backup logship | head -n 1)
    PATH=$(realpath "$(dirname "$binary")"):$PATH
    demo_of_a_folder
    demo_of_log_files
fi
title "Done in $((SECONDS - began)) s. Everything the demo made is removed."
