# shellcheck shell=bash
# The second part of the first chore: a database is dumped, loses a table, is restored, and the dump is drilled.
# Sourced by deploy/demo.sh, after backup.sh: it uses that one's repository.

# shellcheck source=deploy/demo/stage.sh
. deploy/demo/stage.sh
# shellcheck source=deploy/debian.sh
. deploy/debian.sh

database=$id-shop
database_image=$id-database

# Stays, as it takes minutes to make.
DATABASE_BASE=chores/demo-mariadb-base

clean_up_database() {
    docker rm --force --volumes "$database" >/dev/null 2>&1 || true
    docker rmi --force "$database_image" >/dev/null 2>&1 || true
}

# Makes the image; where this machine cannot, prints why and fails. One layer over the base: a container of it gets
# the files and becomes the image.
provide_database_image() {
    local files=$scratch/database made
    provide_debian "$DATABASE_BASE" mariadb-server-core,mariadb-client "$scratch" || return 1
    mkdir -p "$files"
    cp tests/src/databases/mariadb.sh "$files/entrypoint.sh"
    cp tests/src/databases/secrets.sh "$files"
    chmod 0755 "$files/entrypoint.sh"
    made=$(docker create "$DATABASE_BASE" /bin/true)
    docker cp "$files/." "$made:/" >/dev/null
    docker cp tests/src/databases/mariadb.cnf "$made:/etc/mysql/conf.d/small.cnf" >/dev/null
    docker commit --change 'ENTRYPOINT ["/entrypoint.sh"]' --change 'CMD []' --change 'VOLUME /var/lib/mysql' \
        --change 'HEALTHCHECK --interval=1s --retries=60 CMD mariadb-admin --host=127.0.0.1 --silent ping' \
        "$made" "$database_image" >/dev/null
    docker rm "$made" >/dev/null
}

sql() { docker exec --interactive "$database" sh -c 'MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb --user=root --skip-column-names shop' <<<"$1"; }

wait_healthy() {
    local tries=0
    until [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || fail "the database does not get ready: $(docker logs --tail 5 "$1" 2>&1)"
        sleep 1
    done
}

demo_of_a_database() {
    local why
    title "A database: dump, loss, restore, drill"
    if ! why=$(provide_database_image); then
        printf '  skipped: %s\n' "$why"
        return
    fi
    docker run --detach --name "$database" --env MARIADB_ROOT_PASSWORD="$id" --env MARIADB_DATABASE=shop \
        "$database_image" >/dev/null
    wait_healthy "$database"
    sql "CREATE TABLE orders (n INT PRIMARY KEY, what VARCHAR(80)); INSERT INTO orders SELECT seq, 'something' FROM seq_1_to_100000;"
    local sidecar=(docker run --rm -v "$(engine_socket):/var/run/docker.sock" -v "$repository:/repo" chores/backup --log-format text)
    play "${sidecar[@]}" dump --repo /repo --container "$database" --name shop
    play sql "DROP TABLE orders;"
    play "${sidecar[@]}" restore latest:shop --repo /repo --into "$database"
    [ "$(sql 'SELECT COUNT(*) FROM orders;')" = 100000 ] || fail "the restored table does not have its rows"
    printf '  100000 orders are back\n'
    play "${sidecar[@]}" drill latest:shop --repo /repo
    play "${sidecar[@]}" snapshots --repo /repo
}
