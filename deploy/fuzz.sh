#!/usr/bin/env bash
# Runs each fuzz target of logship and ssh-gateway for a while: deploy/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
# cargo-fuzz asks for options that stable Rust hides.
export RUSTC_BOOTSTRAP=1
for tool in logship ssh-gateway; do
    cd "$tool"
    for target in fuzz/targets/*.rs; do
        target=$(basename "$target" .rs)
        # Without a sanitizer: the code is safe Rust, and these builds are static.
        cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds"
    done
    cd ..
done
