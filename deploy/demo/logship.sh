# shellcheck shell=bash
# The second chore: a Tomcat-like program writes into a log volume, another one to its standard output. Both are
# shipped while the logs are rotated underneath, the shipper is killed and started again, and every line is counted.
# Without an engine the same is played with files. Sourced by deploy/demo.sh.

# shellcheck source=deploy/demo/stage.sh
. deploy/demo/stage.sh

tomcat=$id-tomcat
web=$id-web
shipper=$id-logship
log_volume=$id-logs
shipped_volume=$id-shipped
state_volume=$id-logship-state
LOG_LINES=6000

# These run inside the busybox container as well as here, so it is their shell that expands them.
# shellcheck disable=SC2016
{
# Writes numbered lines with times into catalina.log, in bursts, for some seconds; opens the file for every line, as
# programs do that can be rotated without being told. The last burst waits for the file GATE, if one is named.
WRITE_FILE='n=0
    while [ $n -lt $LINES ]; do
        while [ -n "$GATE" ] && [ $n -eq $((LINES - 500)) ] && [ ! -e "$GATE" ]; do sleep 0.1; done
        n=$((n + 1))
        echo "$(date +%d-%b-%Y\ %H:%M:%S) INFO [main] request $n" >>catalina.log
        [ $((n % 500)) -ne 0 ] || sleep 0.3
    done'
# The same to standard output.
WRITE_STDOUT='n=0
    while [ $n -lt $LINES ]; do
        n=$((n + 1))
        echo "200 GET /item/$n"
        [ $((n % 500)) -ne 0 ] || sleep 0.3
    done'
# What logrotate does with `create` and no signal: the names move up by one.
ROTATE='for n in 3 2 1; do
        [ ! -e catalina.log.$n ] || mv catalina.log.$n catalina.log.$((n + 1))
    done
    mv catalina.log catalina.log.1'
# How often each number came: lines, different numbers, smallest and largest.
COUNT='sed -n "s/.*[ /]\([0-9][0-9]*\)$/\1/p" | sort -n | awk "
    { lines++; if (\$1 != last || NR == 1) different++; last = \$1; if (NR == 1) first = \$1 }
    END { print lines + 0, different + 0, first + 0, last + 0 }"'
}

clean_up_logship() {
    docker rm --force --volumes "$tomcat" "$web" "$shipper" >/dev/null 2>&1 || true
    docker volume rm --force "$log_volume" "$shipped_volume" "$state_volume" >/dev/null 2>&1 || true
}

start_shipper() {
    play docker run --detach --name "$shipper" --volumes-from "$tomcat:ro" \
        -v "$(engine_socket):/var/run/docker.sock" -v /var/lib/docker/containers:/var/lib/docker/containers:ro \
        -v "$state_volume:/state" -v "$shipped_volume:/shipped" \
        chores/logship run --state /state --engine --files '/logs/*.log' --files '/logs/*.log.*' \
        --sink 'file:///shipped/{name}.log?format=plain'
}

# Compares what was counted with what was written, and says so.
expect_all() {
    local what=$1 lines different first last
    read -r lines different first last <<<"$2"
    printf '  %s: %s lines written, %s arrived, %s different, from %s to %s\n' \
        "$what" "$LOG_LINES" "$lines" "$different" "$first" "$last"
    if [ "$lines" != "$LOG_LINES" ] || [ "$different" != "$LOG_LINES" ]; then
        fail "lines were lost or repeated"
    fi
}

demo_of_logs() {
    local watched=(-v "$state_volume:/state" -v "$shipped_volume:/shipped")
    title "One program logs into a volume, another one to standard output"
    docker run --detach --init --name "$tomcat" --volume "$log_volume:/logs" --workdir /logs --env "LINES=$LOG_LINES" --env GATE=/tmp/gate \
        "$target_image" sh -c "$WRITE_FILE" >/dev/null
    docker run --detach --init --name "$web" --env "LINES=$LOG_LINES" --log-driver json-file --log-opt max-size=50k \
        --log-opt max-file=3 "$target_image" sh -c "$WRITE_STDOUT" >/dev/null

    title "Ship both; meanwhile the logs are rotated, and the shipper is killed"
    start_shipper
    sleep 1
    play docker exec "$tomcat" sh -c "$ROTATE"
    play docker kill "$shipper"
    play docker exec "$tomcat" sh -c "$ROTATE"
    play docker start "$shipper"
    sleep 1
    play docker exec "$tomcat" sh -c "$ROTATE"
    docker exec "$tomcat" sh -c 'mkdir -p /tmp && touch /tmp/gate'
    docker wait "$tomcat" "$web" >/dev/null
    play docker stop --time 20 "$shipper"

    title "Ship what is left, then count every line"
    play docker run --rm --volumes-from "$shipper" chores/logship once --state /state --engine \
        --files '/logs/*.log' --files '/logs/*.log.*' --sink 'file:///shipped/{name}.log?format=plain'
    local counted
    counted=$(docker run --rm "${watched[@]}" "$target_image" sh -c "cat /shipped/*catalina* | $COUNT")
    expect_all catalina.log "$counted"
    counted=$(docker run --rm "${watched[@]}" "$target_image" sh -c "cat /shipped/*-web.log | $COUNT")
    expect_all "standard output of web" "$counted"
    play docker run --rm -v "$state_volume:/state" chores/logship audit --state /state
}

demo_of_log_files() {
    local ship=(logship once --state "$scratch/logship/state" --files "$scratch/logship/logs/*.log*"
        --sink "file://$scratch/logship/shipped/{name}.log?format=plain")
    mkdir -p "$scratch/logship/logs"

    title "A program logs into a file, which is rotated; every run ships what is new"
    (cd "$scratch/logship/logs" && GATE='' LINES=$((LOG_LINES / 2)) sh -c "$WRITE_FILE")
    play "${ship[@]}"
    (cd "$scratch/logship/logs" && sh -c "$ROTATE" && GATE='' LINES=$LOG_LINES sh -c "${WRITE_FILE/n=0/n=$((LOG_LINES / 2))}")
    play "${ship[@]}"
    expect_all catalina.log "$(cat "$scratch"/logship/shipped/* | sh -c "$COUNT")"
    play logship audit --state "$scratch/logship/state"
}
