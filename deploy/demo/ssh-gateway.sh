# shellcheck shell=bash
# The third chore: a container of nothing but busybox is entered over SSH: a command, a terminal, a file, a port. Then
# a client is killed in the middle of its work, and it is shown that nothing is left in the container. Sourced by
# deploy/demo.sh; there is nothing to enter without an engine.

# shellcheck source=deploy/demo/stage.sh
. deploy/demo/stage.sh

site=$id-site
gateway=$id-ssh-gateway
gateway_volume=$id-ssh-state
forward=
worker=
# Programs of a session that do not go by themselves, and one that does not listen either.
STUBBORN='sleep 1000 & (trap "" HUP TERM; sleep 1000) & sleep 1000'

clean_up_ssh_gateway() {
    local client
    for client in $forward $worker; do kill "$client" 2>/dev/null || true; done
    docker rm --force --volumes "$site" "$gateway" >/dev/null 2>&1 || true
    docker volume rm --force "$gateway_volume" >/dev/null 2>&1 || true
}

# Where the runtime keeps how containers are confined: with the engine's own containerd, or with the system's.
bundles() {
    local system=/run/containerd/io.containerd.runtime.v2.task/moby
    if [ -d "$system" ]; then
        printf '%s' "$system"
    else
        printf '/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby'
    fi
}

# What an operator's own ~/.ssh would say; `ssh -F config` keeps the demo out of it.
make_client() {
    mkdir -p "$scratch/ssh" "$scratch/keys"
    ssh-keygen -q -t ed25519 -N '' -C demo -f "$scratch/ssh/key"
    cp "$scratch/ssh/key.pub" "$scratch/keys/authorized_keys"
}

configure_client() {
    local address=$1
    cat >"$scratch/ssh/config" <<END
Host host
    HostName ${address%:*}
    Port ${address##*:}
    IdentityFile $scratch/ssh/key
    IdentitiesOnly yes
    BatchMode yes
    UserKnownHostsFile $scratch/ssh/known_hosts
    StrictHostKeyChecking accept-new
    LogLevel ERROR
END
}

start_gateway() {
    local name capabilities=()
    for name in SYS_ADMIN SYS_CHROOT SYS_PTRACE SETUID SETGID SETPCAP CHOWN DAC_OVERRIDE FOWNER FSETID KILL \
        NET_BIND_SERVICE NET_RAW MKNOD AUDIT_WRITE SETFCAP; do capabilities+=(--cap-add "$name"); done
    play docker run --detach --name "$gateway" --publish 127.0.0.1::2222 --pid host --cgroupns host --read-only \
        --cap-drop ALL "${capabilities[@]}" \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        -v "$(engine_socket):/var/run/docker.sock" -v /sys/fs/cgroup:/host/cgroup -v "$(bundles):/bundles:ro" \
        -v "$gateway_volume:/state" -v "$scratch/keys:/keys:ro" \
        chores/ssh-gateway serve --state /state --authorized-keys /keys/authorized_keys
    configure_client "$(docker port "$gateway" 2222/tcp | head -n 1)"
}

# Runs the client where its files are, so that commands are as short as one would type them.
as_client() { (cd "$scratch/ssh" && "$@"); }

# until_true SECONDS COMMAND…
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# A line for each process of the container, and for each cgroup below its own.
left_in_site() {
    docker top "$site" -o pid,args | tail -n +2 | sort
    find /sys/fs/cgroup -type d -path "*$(docker inspect --format '{{.Id}}' "$site")*/ssh-*" 2>/dev/null || true
}

sleeps_in_site() { [ "$(docker exec "$site" pidof sleep | wc -w)" = "$1" ]; }

is_as_before() { [ "$(left_in_site)" = "$1" ]; }

demo_of_a_gateway() {
    local before code=0 port local_sum remote_sum
    title "A web server in an image of nothing but busybox; beside it, the gateway"
    docker run --detach --init --name "$site" --network none "$target_image" \
        sh -c 'mkdir /site && echo "hello from inside" >/site/index.html && exec httpd -f -p 127.0.0.1:8080 -h /site' >/dev/null
    until_true 20 docker exec "$site" wget -q -O /dev/null http://127.0.0.1:8080/ || fail "the web server does not answer"
    before=$(left_in_site)
    make_client
    start_gateway
    until_true 20 as_client ssh -F config "$site@host" true ||
        fail "the gateway does not answer: $(docker logs "$gateway" 2>&1 | tail -n 5)"

    title "A command, a terminal, an exit status"
    as_client play ssh -F config "$site@host" 'hostname; id; grep -E "^(CapEff|Seccomp):" /proc/self/status'
    play docker exec "$site" grep -E '^(CapEff|Seccomp):' /proc/self/status
    as_client play ssh -F config -tt "$site@host" 'tty; exit 7' </dev/null || code=$?
    printf '  exit status %s\n' "$code"
    [ "$code" = 7 ] || fail "the exit status of the shell was 7"

    title "A file, by an sftp server that the image does not have"
    head -c 20000000 /dev/urandom >"$scratch/ssh/film.bin"
    echo 'put film.bin /site/' >"$scratch/ssh/upload"
    as_client play sftp -q -F config -b upload "$site@host"
    local_sum=$(sha256sum <"$scratch/ssh/film.bin")
    remote_sum=$(docker exec "$site" sha256sum /site/film.bin)
    [ "${local_sum%% *}" = "${remote_sum%% *}" ] || fail "the file did not arrive as it was"
    printf '  equal: 20 MB, sha256 %.16s…\n' "$local_sum"

    title "A port that only the container itself can reach"
    port=$((20000 + RANDOM % 20000))
    printf '  $ ssh -N -L %s:localhost:8080 %s@host &\n' "$port" "${site#"$id"-}"
    (cd "$scratch/ssh" && exec ssh -F config -N -L "127.0.0.1:$port:localhost:8080" "$site@host") &
    forward=$!
    until_true 20 busybox wget -q -O - "http://127.0.0.1:$port/" || fail "the forward does not answer"
    play busybox wget -q -O - "http://127.0.0.1:$port/"

    title "Every client is killed in the middle of its work; nothing may stay behind"
    (cd "$scratch/ssh" && exec ssh -F config "$site@host" "$STUBBORN" </dev/null) &
    worker=$!
    until_true 20 sleeps_in_site 3 || fail "the session did not start"
    printf '  processes in the container: %s, before: %s\n' "$(docker top "$site" | tail -n +2 | wc -l)" \
        "$(printf '%s\n' "$before" | wc -l)"
    kill -KILL "$worker" "$forward"
    wait "$worker" "$forward" 2>/dev/null || true
    forward=
    worker=
    until_true 30 is_as_before "$before" || fail "this is left: $(left_in_site)"
    printf '  the same processes as before the first session, and no cgroup of a session\n'
    play docker stop -t 30 "$gateway"
}
