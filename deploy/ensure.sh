#!/usr/bin/env bash
# Makes sure that what a make target needs is on this machine.
#
#   deploy/ensure.sh build|tests|demo|engine|images|lint|bench|fuzz …
#
# As root on Debian or Ubuntu, missing packages are installed and an engine is started, and each act is
# announced. Otherwise, or with CHORES_NO_INSTALL=1, what is missing is named with the way to get it.
# Missing build tools are always a failure. Anything else missing is one only with CHORES_REQUIRE_ENGINE=1:
# without it the tests name what they could not run.
set -euo pipefail

ENGINE_START_SECONDS_MAX=60
PACKAGE_LOCK_SECONDS_MAX=300
ENGINE_LOG=/var/log/dockerd.log

# shellcheck source=deploy/say.sh
. "$(dirname "$0")/say.sh"

may_install() {
    [ "${CHORES_NO_INSTALL:-}" != 1 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

# Some users lack the sbin folders, and Debian's cargo does not put its own bin folder on PATH.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin"

# has COMMAND…: every one is on PATH.
has() {
    local name
    for name in "$@"; do command -v "$name" >/dev/null || return 1; done
}

has_static_libc() {
    has cc && case $(cc -print-file-name=libc.a) in /*) ;; *) return 1 ;; esac
}

has_static_busybox() {
    has busybox && ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'
}

# Its plugins are not on PATH.
has_rsyslog_plugin() {
    local module
    for module in /usr/lib/*/rsyslog/"$1".so /usr/lib*/rsyslog/"$1".so; do
        if [ -e "$module" ]; then return; fi
    done
    return 1
}

has_rsyslog_tls() {
    has_rsyslog_plugin lmnsd_gtls
}

has_rsyslog_elasticsearch() {
    has_rsyslog_plugin omelasticsearch
}

has_lighttpd_module() {
    [ -e "/usr/lib/lighttpd/$1.so" ]
}

has_python_venv() {
    has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null
}

# Debian's own Python has Debian's packages.
has_aiosmtpd() {
    /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null
}

# The Debian packages a group of needs lacks, one per line.
missing_of() {
    case $1 in
        build)
            has make || echo make
            has cc || echo gcc
            has_static_libc || echo libc6-dev
            ;;
        tests)
            has_static_busybox || echo busybox-static
            has debootstrap || echo debootstrap
            has bsdtar || echo libarchive-tools
            has getfattr setfattr || echo attr
            has getfacl setfacl || echo acl
            has getcap setcap || echo libcap2-bin
            has jq || echo jq
            has logrotate || echo logrotate
            has zstd || echo zstd
            has age age-keygen || echo age
            has tar || echo tar
            has podman || echo podman
            has runc || echo runc
            has python3 || echo python3
            has openssl || echo openssl
            has rsyslogd || echo rsyslog
            has_rsyslog_tls || echo rsyslog-gnutls
            has_rsyslog_elasticsearch || echo rsyslog-elasticsearch
            has kcat || echo kcat
            has nats-server || echo nats-server
            has socat || echo socat
            has strace || echo strace
            has ssh ssh-keygen ssh-agent sftp scp || echo openssh-client
            has sshd || echo openssh-server
            has lighttpd || echo lighttpd
            has_lighttpd_module mod_webdav || echo lighttpd-mod-webdav
            has_lighttpd_module mod_openssl || echo lighttpd-mod-openssl
            has dbclient || echo dropbear-bin
            has oathtool || echo oathtool
            has plink psftp puttygen || echo putty-tools
            has rsync || echo rsync
            has git || echo git
            has sshfs || echo sshfs
            has ansible || echo ansible-core
            has tmux || echo tmux
            has chromium || echo chromium
            has_python_venv || echo python3-venv
            has_aiosmtpd || echo python3-aiosmtpd
            ;;
        demo)
            has_static_busybox || echo busybox-static
            has debootstrap || echo debootstrap
            has ssh sftp ssh-keygen || echo openssh-client
            ;;
        engine)
            has docker || echo docker.io
            if ! has dockerd && ! engine_answers; then echo docker.io; fi
            ;;
        images)
            has readelf || echo binutils
            has_static_busybox || echo busybox-static
            has rsync || echo rsync
            has strace || echo strace
            ;;
        lint) has shellcheck || echo shellcheck ;;
        fuzz) has c++ || echo g++ ;;
        bench)
            has age-keygen || echo age
            has restic || echo restic
            has borg || echo borgbackup
            has zstd || echo zstd
            has python3 || echo python3
            has rsyslogd || echo rsyslog
            has_static_busybox || echo busybox-static
            has nsenter || echo util-linux
            has ssh sftp ssh-keygen || echo openssh-client
            has sshd || echo openssh-server
            ;;
        *) fail "unknown need: $1 (one of build, tests, demo, engine, images, lint, bench, fuzz)" ;;
    esac
}

install() {
    say "installing $* (Debian packages; CHORES_NO_INSTALL=1 forbids this)"
    local apt=(apt-get -qq -o "DPkg::Lock::Timeout=$PACKAGE_LOCK_SECONDS_MAX")
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update </dev/null || say "the package lists could not be refreshed: trying with the old ones"
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >/dev/null
}

engine_answers() {
    has docker && timeout 20 docker version >/dev/null 2>&1
}

wait_for_engine() {
    local deadline=$((SECONDS + ENGINE_START_SECONDS_MAX))
    until engine_answers; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

start_engine() {
    if pgrep -x dockerd >/dev/null 2>&1; then
        say "dockerd is running: waiting for it to answer"
    elif [ -d /run/systemd/system ]; then
        say "starting the engine: systemctl start docker"
        systemctl start docker
    else
        say "starting the engine: dockerd (log: $ENGINE_LOG)"
        setsid nohup dockerd >"$ENGINE_LOG" 2>&1 </dev/null &
    fi
    wait_for_engine && return
    if [ -f "$ENGINE_LOG" ]; then tail -n 15 "$ENGINE_LOG" >&2; fi
    return 1
}

# Words for a machine where we may not install.
advise() {
    local why="run as root on Debian or Ubuntu and it is installed for you"
    if [ "${CHORES_NO_INSTALL:-}" = 1 ]; then why="CHORES_NO_INSTALL=1 forbids installing it"; fi
    say "missing for $1: ${*:2} ($why; by hand: sudo apt-get install ${*:2})"
}

ensure_packages() {
    local need=$1 missing
    mapfile -t missing < <(missing_of "$need" | sort -u)
    [ ${#missing[@]} = 0 ] && return
    if ! may_install; then
        advise "$need" "${missing[@]}"
        return 1
    fi
    install "${missing[@]}" || return 1
    # From Debian 13 on the engine's command line is a package of its own.
    if [ "$need" = engine ] && ! has docker; then install docker-cli; fi
}

ensure_engine() {
    engine_answers && return
    if [ -n "${DOCKER_HOST:-}" ]; then
        say "no container engine answers at DOCKER_HOST=$DOCKER_HOST"
        return 1
    fi
    ensure_packages engine || return 1
    engine_answers && return
    if ! may_install; then
        say "no container engine answers (start one, or set DOCKER_HOST; as root it is started for you)"
        return 1
    fi
    start_engine || {
        say "the engine did not answer within $ENGINE_START_SECONDS_MAX s"
        return 1
    }
}

ensure_cargo() {
    has cargo || fail "cargo is missing: install Rust from https://rustup.rs (the version is in rust-toolchain.toml)"
}

ensure_cargo_deny() {
    has cargo-deny && return
    if [ "${CHORES_NO_INSTALL:-}" = 1 ]; then
        say "missing for lint: cargo-deny (CHORES_NO_INSTALL=1 forbids installing it; by hand: cargo install --locked cargo-deny)"
        return 1
    fi
    say "installing cargo-deny into cargo's bin folder; this takes some minutes, once"
    cargo install --quiet --locked cargo-deny
}

ensure_cargo_fuzz() {
    has c++ || ensure_packages fuzz || return 1
    has cargo-fuzz && return
    if [ "${CHORES_NO_INSTALL:-}" = 1 ]; then
        say "missing for fuzz: cargo-fuzz (CHORES_NO_INSTALL=1 forbids installing it; by hand: cargo install --locked cargo-fuzz)"
        return 1
    fi
    say "installing cargo-fuzz into cargo's bin folder; this takes some minutes, once"
    cargo install --quiet --locked cargo-fuzz
}

# SSH clients of PyPI, and what plays recordings, in a virtual environment of their own that the harness looks for.
ensure_python_clients() {
    local wanted cache=${CHORES_CACHE:-$HOME/.cache/chores}
    local clients=$cache/ssh-clients
    wanted=$(dirname "$0")/../tests/testdata/ssh-clients.txt
    cmp -s "$wanted" "$clients/made-of.txt" && return
    if [ "${CHORES_NO_INSTALL:-}" = 1 ]; then
        say "missing for tests: $clients with the Python packages of $wanted (CHORES_NO_INSTALL=1 forbids making it)"
        return 1
    fi
    say "installing $(paste -sd ' ' "$wanted") from PyPI into $clients"
    mkdir -p "$cache"
    rm -rf "$clients"
    python3 -m venv "$clients" || return 1
    "$clients/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" || return 1
    cp "$wanted" "$clients/made-of.txt"
}

# Whether going on without a need is wrong.
required() {
    [ "$1" = build ] || [ "${CHORES_REQUIRE_ENGINE:-}" = 1 ]
}

for need in "$@"; do
    met=yes
    case $need in
        build) ensure_cargo && ensure_packages build || met=no ;;
        engine) ensure_engine || met=no ;;
        lint) ensure_packages lint && ensure_cargo_deny || met=no ;;
        tests) ensure_packages tests && ensure_python_clients || met=no ;;
        fuzz) ensure_cargo_fuzz || met=no ;;
        *) ensure_packages "$need" || met=no ;;
    esac
    if [ $met = no ] && required "$need"; then fail "cannot go on without what $need needs"; fi
done
