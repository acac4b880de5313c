# shellcheck shell=bash
# The first chore: a volume is backed up, changed, backed up again, destroyed, restored and compared. Without an
# engine the same is played with a folder. Sourced by deploy/demo.sh, which has play, title and the names.

# shellcheck source=deploy/demo/stage.sh
. deploy/demo/stage.sh

container=$id-mysql
volume=$id-data
repository=$id-repo

# These run inside the busybox container as well as here, so it is their shell that expands them.
# shellcheck disable=SC2016
{
# A database's folder in small: tables, a log, many
# little files, a link, owners and modes worth keeping.
FILL='set -e
    for n in 1 2 3 4 5 6; do dd if=/dev/urandom of=table$n.ibd bs=1M count=8 2>/dev/null; done
    seq 1 4000000 >general.log
    mkdir files
    n=0
    while [ $n -lt 2000 ]; do n=$((n + 1)); echo "row $n of a table nobody remembers" >files/$n.txt; done
    ln -s table1.ibd current
    ln files/1.txt files/hard-link.txt
    chmod 0640 table*.ibd
    chown -R 999:999 . 2>/dev/null || true'
CHANGE='set -e
    dd if=/dev/urandom of=table3.ibd bs=16384 seek=100 count=4 conv=notrunc 2>/dev/null
    echo "one more line" >>general.log
    rm files/77.txt
    echo new >files/new.txt'
# One checksum of everything a restore must bring back: content, kind, mode, owner, times, link targets.
DIGEST='{ find . -exec stat -c "%n %F %a %u %g %Y" {} + | sort
          find . -type f -exec sha256sum {} + | sort
          find . -type l -exec readlink {} + | sort; } | sha256sum | cut -c 1-16'
}

clean_up_backup() {
    docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    docker volume rm --force "$volume" "$repository" >/dev/null 2>&1 || true
}

compare() {
    printf '  before %s\n  after  %s\n' "$1" "$2"
    [ "$1" = "$2" ] || fail "the restored data is not what was backed up"
    printf '  equal: content, kinds, modes, owners, times and links\n'
}

start_container() {
    docker run --detach --init --name "$container" --volume "$volume:/var/lib/mysql" --workdir /var/lib/mysql "$target_image" >/dev/null
}

inside() { docker exec "$container" sh -c "$1"; }

repository_size() {
    local size
    size=$(docker run --rm -v "$repository:/repo:ro" "$target_image" du -sh /repo)
    printf '  the repository has %s\n' "${size%%[[:space:]]*}"
}

demo_of_a_volume() {
    local sidecar=(docker run --rm -v "$repository:/repo" chores/backup)

    title "A container keeps its data in a volume"
    start_container
    inside "$FILL"
    printf '  %s in %s files\n' "$(inside 'du -sh . | cut -f 1')" "$(inside 'find . -type f | wc -l')"

    title "Back it up: a sidecar that sees the volumes of the container"
    play "${sidecar[@]}" init --repo /repo
    play docker run --rm --volumes-from "$container:ro" -v "$repository:/repo" chores/backup create --repo /repo --name mysql
    repository_size

    title "Some data changes; the next backup stores the difference"
    inside "$CHANGE"
    local before
    before=$(inside "$DIGEST")
    play docker run --rm --volumes-from "$container:ro" -v "$repository:/repo" chores/backup create --repo /repo --name mysql
    repository_size
    play "${sidecar[@]}" snapshots --repo /repo

    title "Disaster: container and volume are gone"
    play docker rm --force "$container"
    play docker volume rm "$volume"

    title "Restore into a new volume, start again, compare"
    play docker run --rm -v "$(engine_socket):/var/run/docker.sock" -v "$repository:/repo" \
        chores/backup --log-format text restore latest:mysql --repo /repo --volume "$volume"
    start_container
    compare "$before" "$(inside "$DIGEST")"
    play "${sidecar[@]}" check --repo /repo --read-data
}

# A subshell, so that its folder is its own.
demo_of_a_folder() (
    mkdir "$scratch/backup"
    cd "$scratch/backup" || exit
    mkdir data restored

    title "A folder with data"
    (cd data && sh -c "$FILL")
    printf '  %s in %s files\n' "$(du -sh data | cut -f 1)" "$(find data -type f | wc -l)"

    title "Back it up, change some of it, back it up again"
    play backup init --repo repo
    play backup create --repo repo --name data data
    printf '  the repository has %s\n' "$(du -sh repo | cut -f 1)"
    (cd data && sh -c "$CHANGE")
    before=$(cd data && sh -c "$DIGEST")
    play backup create --repo repo --name data data
    printf '  the repository has %s\n' "$(du -sh repo | cut -f 1)"
    play backup snapshots --repo repo

    title "Lose it, restore it, compare"
    rm -rf data
    play backup restore latest:data --repo repo --target restored --strip
    compare "$before" "$(cd restored && sh -c "$DIGEST")"
    play backup check --repo repo --read-data
)
