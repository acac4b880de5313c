#!/bin/bash
# What Visual Studio Code's Remote-SSH asks of a server, with OpenSSH's clients: a shell without a terminal that reads its set-up from
# standard input and carries a SOCKS proxy (`ssh -T -D PORT HOST bash`), an archive by SFTP over a second connection, a server that
# the shell leaves running at 127.0.0.1, many requests to it through the proxy, and a terminal over a third connection.
#
#   editor.sh FOLDER SOCKS_PORT LOGIN OPTIONS-OF-SSH-AND-SFTP…
# What is in single quotes is for the shell in the container.
# shellcheck disable=SC2016
set -euo pipefail
folder=$1 socks=$2 login=$3
shift 3
STEP_SECONDS_MAX=60
REQUESTS=12
BIG_BYTES=16777216

fail() {
    echo "editor: $*" >&2
    cat "$folder/out" "$folder/err" >&2 || true
    exit 1
}

# said MARK: waits until the shell has printed MARK==value== and prints the value.
said() {
    for _ in $(seq $((STEP_SECONDS_MAX * 20))); do
        if value=$(sed -n "s/^$1==\(.*\)==$/\1/p" "$folder/out") && [ -n "$value" ]; then
            echo "$value"
            return
        fi
        kill -0 "$shell" 2>/dev/null || fail "the shell ended before it said $1"
        sleep 0.05
    done
    fail "the shell did not say $1"
}

ask() {
    curl --silent --show-error --fail --max-time "$STEP_SECONDS_MAX" --socks5 "127.0.0.1:$socks" "http://127.0.0.1:$port/$1"
}

mkdir "$folder/server"
cat > "$folder/server/server.py" <<'PYTHON'
import http.server
import os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = b"version 1" if self.path == "/version" else b"x" * int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
with open("port.new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename("port.new", "port")
server.serve_forever()
PYTHON
tar -C "$folder/server" -czf "$folder/server.tar.gz" server.py

mkfifo "$folder/in"
: > "$folder/out"
ssh "$@" -T -D "$socks" -o ExitOnForwardFailure=yes "$login" bash < "$folder/in" > "$folder/out" 2> "$folder/err" &
shell=$!
exec 3> "$folder/in"
trap 'kill "$shell" 2>/dev/null || true' EXIT

printf '%s\n' 'mkdir -p ~/.editor-server && cd ~/.editor-server' 'echo "system==$(uname -s)=="' 'echo "home==$HOME=="' >&3
[ "$(said system)" = Linux ] || fail "another system: $(said system)"
home=$(said home)

printf 'put %s %s/.editor-server/server.part\nrename %s/.editor-server/server.part %s/.editor-server/server.tar.gz\n' \
    "$folder/server.tar.gz" "$home" "$home" "$home" | sftp -q "$@" -b - "$login" > /dev/null

printf '%s\n' 'tar -xzf server.tar.gz' 'nohup python3 server.py > log 2>&1 < /dev/null &' \
    'while ! [ -e port ]; do sleep 0.05; done; echo "listening==$(cat port)=="' >&3
port=$(said listening)

[ "$(ask version)" = "version 1" ] || fail "the server has another version"
requests=()
for number in $(seq "$REQUESTS"); do
    ask "$((number * 1000))" > "$folder/answer$number" &
    requests+=($!)
done
for request in "${requests[@]}"; do wait "$request" || fail "a request through the proxy failed"; done
for number in $(seq "$REQUESTS"); do
    [ "$(wc -c < "$folder/answer$number")" = $((number * 1000)) ] || fail "answer $number is cut"
done
[ "$(ask "$BIG_BYTES" | wc -c)" = "$BIG_BYTES" ] || fail "a long answer is cut"

terminal=$(ssh "$@" -tt "$login" 'test -t 0 && stty size && echo terminal' < /dev/null | tr -d '\r')
case $terminal in *terminal) ;; *) fail "no terminal: $terminal" ;; esac

# The shell goes on reading what it is told for as long as the window is open, and ends with it.
printf '%s\n' 'echo "still==here=="' >&3
[ "$(said still)" = here ] || fail "the shell no longer answers"
exec 3>&-
wait "$shell" || fail "the shell ended with $?"
trap - EXIT
echo "done"
