#!/bin/sh
# Restores a snapshot of a `backup` repository (format 1, in a directory) without that program. Needs zstd, tar, jq and GNU
# coreutils, for an encrypted one age and openssl too; setfattr for extended attributes, root for owners and devices; and room for
# the chunks beside the files: in the target, or in TMPDIR when that is set. See backup-format.md, "Salvage".
# shellcheck disable=SC1091,SC2016,SC2034  # the steps are generated; they use $n
usage='usage: [SALVAGE_IDENTITY=PRIVATE-KEY-FILE] salvage.sh REPOSITORY [SNAPSHOT] TARGET
  SNAPSHOT  the first digits of its id, latest (the default) or latest:NAME
  TARGET    an empty or new directory; a source /srv/data is put at TARGET/srv/data
exit code 0: all restored, 3: metadata is missing or a file is torn, 1: files are missing, 2: wrong usage'
set -u && export LC_ALL=C && umask 077
n=$(printf '\n.') n=${n%.} code=0 id='' name='' doc='' found=0 end='' keys='' root=false symlinks=false CDPATH=''
say() { printf 'salvage: %s\n' "$*" >&2; } && die() { say "$*" && exit 1; } && fail() { say "$*" && code=1; }
w() { [ "$code" = 1 ] || code=3; } # after a tool has said what it could not do
case $# in 2) set -- "$1" latest "$2" ;; 3) ;; *) printf '%s\n' "$usage" >&2 && exit 2 ;; esac
for tool in zstd tar jq mktemp tac truncate; do command -v "$tool" >/dev/null || die "$tool is missing"; done; repo=$(cd -- "$1" && pwd) || die "there is no repository $1"
read=$(jq -r 'select(.format == "chores-backup" and .version == 1).features.read - ["moved", "lock"] | join(" ") + "."' "$repo/repo.json")
case $read in .) ;; encryption.) end=.age ;; *) die "$repo is no repository of format 1 that this script reads" ;; esac
if [ "$end" ]; then # the key slot that the private key opens has the keys of the documents
  { identity=$(realpath -e -- "${SALVAGE_IDENTITY-}") && command -v age && command -v openssl; } >/dev/null 2>&1 ||
    die "$repo is encrypted: name the file with the private key in SALVAGE_IDENTITY, and install age and openssl"
  for slot in $(jq -r '.keys[] | select(.kind == "age").wrapped' "$repo/repo.json"); do
    keys="$keys$(printf %s "$slot" | base64 -d | age -d -i "$identity" 2>/dev/null | jq -r '.index_keys[] + " "')"; done
  [ "$keys" ] || keys=$(jq -r '.index_keys[] + " "' "${SALVAGE_KEY_FILE:-/dev/null}" || :); [ "$keys" ] || die "$identity does not open $repo: name its key file in SALVAGE_KEY_FILE"
fi
document() { # a sealed one has 16 bytes of header, 12 of nonce, ChaCha20 from block 1 on, and a tag of 16, which openssl cannot check
  for key in ${keys:-none}; do
    if [ "$end" ]; then tail -c +29 -- "$1" | head -c -16 | openssl enc -d -chacha20 -K "$key" -iv "01000000$(od -An -tx1 -j16 -N12 -- "$1" | tr -d ' ')"
    else cat -- "$1"; fi | jq -ce 'select(type == "object")' 2>/dev/null && return; done; }
case $2 in latest) ;; latest:*) name=${2#latest:} ;; *[!0-9a-f]*) die "$2 is no snapshot" ;; *) id=$2 ;; esac
for file in "$repo/snapshots/"*-"$id"*.json"${end:+.enc}"; do
  [ -f "$file" ] || continue; text=$(document "$file"); [ "$text" ] || { say "$file cannot be read" && continue; }
  printf '%s\n' "$text" | jq -e --arg id "$id" --arg name "$name" '.version >= 1 and .version <= 3 and
    ($id != "" or .state != "failed") and ($name == "" or .name == $name)' >/dev/null && doc=$file && found=$((found + 1)); done
{ [ "$doc" ] || die "$repo has no snapshot $2"; } && { [ -z "$id" ] || [ "$found" = 1 ] || die "$id fits $found snapshots: give more digits"; }
id=${doc##*-} && id=${id%%.*} && say "restoring ${doc##*/} to $3"
{ mkdir -p -- "$3" && cd -- "$3" && [ -z "$(ls -A)" ]; } || die "$3 is not an empty directory"; { work=$(mktemp -d "${TMPDIR:-$PWD}/.salvage-XXXXXX") && mkdir "$work/chunks"; } || die "cannot make a directory"
trap 'rm -rf -- "$work"' EXIT && trap 'exit 130' HUP INT TERM && document "$doc" >"$work/doc" && doc=$work/doc
# Packs, or those that are there of what their content was moved to, to files named by chunk id. Only whole packs: half a chunk would be taken for a chunk.
for file in "$repo/moved/"*.json"${end:+.enc}"; do [ ! -f "$file" ] || document "$file"; done | jq -c --arg id "$id" '.moves[] | select(.snapshots | index($id)).packs' >"$work/moved"
find "$repo/packs" -type f | sed 's,.*/,,; s,[.].*,,' | jq -nR '[inputs | {key: ., value: true}] | from_entries' >"$work/there"
jq -r --slurpfile moved "$work/moved" --slurpfile there "$work/there" 'def ways: . as $p | $moved[][$p] // empty; def had($n): $there[0][.] or ($n > 0 and any(ways; all(.[]; had($n - 1))));
  def at($n): [if $n > 0 then ways else empty end | select(all(.[]; had($n - 1)))][0] as $to | if $to == null then . else $to[] | at($n - 1) end;
  [.packs[] | at(1000)] | unique[]' "$doc" >"$work/packs" || die "the snapshot is damaged"
while read -r id; do
  pack=$repo/packs/$(printf %.2s "$id")/$id.tar.zst$end
  [ ! "$end" ] || { age -d -i "$identity" "$pack" >"$work/pack" || : >"$work/pack"; pack=$work/pack; }
  if [ ! -s "$pack" ] || ! zstd -tq -- "$pack"; then fail "what only the pack $id has will be missing"
  elif ! zstd -dcq -- "$pack" | tar -xof - -C "$work/chunks"; then die "cannot unpack $pack"; fi; done <"$work/packs"
# From the root down the lists of ids to the entries.
jq -r .tree.root "$doc" >"$work/tree" && depth=$(jq .tree.depth "$doc")
while [ "$depth" -ge 0 ]; do
  mv "$work/tree" "$work/ids" && depth=$((depth - 1))
  while read -r id; do cat -- "$work/chunks/${id##*/}" || exit 1; done <"$work/ids" >"$work/tree" || die "the tree is damaged"
done
# Entries to shell commands. A word is quoted; bytes that are not UTF-8 go through printf, as a new line does through $n.
words='def bytes: [explode[] | select(. != 61) | . - (if . > 96 then 71 elif . > 64 then 65 elif . > 47 then -4 elif . == 43 then -19 else -16 end)]
  as $d | [range($d | length * 3 / 4 | floor) * 8 | (. / 6 | floor) as $i | ($d[$i] * 64 + ($d[$i + 1] // 0)) / [16, 0, 4, 0, 1][. % 6] | floor % 256];
def raw($text; $b64): if $b64 then $b64 | bytes | implode elif ($text | utf8bytelength == length) then $text else $text | @base64 | bytes | implode end
  | if index("\u0000") then error("a NUL byte") else . end;
def names($text; $b64): raw($text; $b64) | split("/") | if any(. == "" or . == "." or . == "..") then error("unsafe path") else . end;
def linked: (.hardlink_of // .hardlink_of_b64) != null; def octal: "\\\(. / 64 | floor)\(. / 8 | floor % 8)\(. % 8)";
def word($before; $text; $b64): if $b64 then raw($text; $b64) | until(endswith("\n") | not; .[:-1]) as $head
  | $before + "\"$(printf \($head | explode | map(octal) | add // "" | @sh))" + "$n" * (length - ($head | length)) + "\""
  else $before + ($text | split("\n") | map(@sh) | join("\"$n\"")) end;
def at($text; $b64): names($text; $b64) as $sound | word("./"; $text; $b64); def here: at(.path; .path_b64);
def pieces: map(if type == "number" then "\nh \(.)\nc" else " " + (if index("/") then error("unsafe id") else @sh end) end) | "c" + add;
def batches($most; all): foreach (all, null) as $e ({}; if $e == null or (.q | length) >= $most then {out: .q, q: [$e]} else {q: (.q + [$e])} end; .out // empty);
def xattrs($acl): .[] | here as $to | .xattrs[]? | select($acl == (.name // "" | startswith("system.posix_acl_")))
  | "x \(word(""; .name; .name_b64)) \(.value_b64 | if . == "" then . else "0s" + . end | @sh) \($to)";
def metadata($dirs): batches(if $root or ($dirs | not) then 100 else 1 end; inputs | select(.type and $dirs == (.type == "dir") and (linked or .type == "socket" | not) and ($root or .device == null)))
  | [(if $root then group_by([.uid, .gid])[] | @sh "chown -h \(.[0].uid):\(.[0].gid) " + (map(here) | join(" ")) else empty end), xattrs(false),
  (map(select(.type != "symlink")) | group_by(.mode)[] | @sh "chmod 0\(.[0].mode | if $root or $dirs then . else "0" + .[1:] end) " + (map(here) | join(" "))),
  xattrs(true), (group_by(.mtime)[] | @sh "touch -h -d @\(.[0].mtime) " + (map(here) | join(" ")))] | if $dirs then reverse[] else .[] end + " || w";'
# Paths must rise and nothing lie below what is no directory, or links of a bad tree would lead out of the target.
jq -n --argjson entries "$(jq .tree.entries "$doc")" "$words"'reduce (inputs | select(.type)) as $e ({n: 0}; ($e | names(.path; .path_b64)) as $p
  | if .n > 0 and $p <= .p or .leaf != null and $p[:.leaf | length] == .leaf then error("paths out of order") else
  {n: (.n + 1), p: $p, leaf: (if $e.type == "dir" then null else $p end)} end) | .n == $entries or error("entries are missing")
' "$work/tree" >/dev/null || die "the tree is damaged"
h() { [ ! "$f" ] || truncate -s "+$1" "$f" || lose; } && d() { (umask 022 && exec mkdir -p "$@") || fail "directories are missing"; }
f() { { f=$1 && set -C && printf '' >"$f"; } || lose; set +C; } # -C: never write to what is there
c() { [ $# = 0 ] || [ ! "$f" ] || (cd "$work/chunks" && exec cat -- "$@") >>"$f" || lose; }
lose() { printf 'salvage: left out, a part is missing: %s\n' "$f" >>"$work/lost" && rm -f "$f" && f='' code=1; }
l() { { { ! "$symlinks" || [ -L "$1" ]; } && ln -PT "$1" "$2"; } || fail "the link $2 is missing"; } && x() { setfattr -h -n "$1" -v "$2" "$3"; } && { [ "$(id -u)" != 0 ] || root=true; }
command -v setfattr >/dev/null || { say "no setfattr: extended attributes are not restored" && x() { false; }; }
step() { # `step tac` does the generated commands in reverse
  jq -nr --argjson root $root --argjson symlinks $symlinks "$words $2" "$work/tree" >"$work/step" || die "the tree is damaged"
  "$1" "$work/step" >"$work/commands" && . "$work/commands"; }
step cat 'batches(100; inputs | select(.type == "dir")) | "d " + (map(here) | join(" "))'
step cat 'inputs | if .more then .more | pieces elif linked or .type == "dir" then "f="
  elif .type == "file" then "f \(here)", (if .torn then "say torn: \(here) && w" else empty end), (.data // [] | pieces)
  elif .type == "fifo" then "f= && mkfifo \(here) || w" elif .type == "socket" then "say not restored: socket \(here)"
  elif .device and $root then "f= && mknod \(here) \(.type[:1] | @sh) \(.device[:2] | @sh) || w"
  elif .device then "say not restored: device \(here) && w" else empty end'
# Hard links to files come first, while there is no symbolic link to follow.
for symlinks in false true; do
  step cat 'inputs | select(.type and $symlinks == (.type == "symlink")) | if linked then "l \(at(.hardlink_of; .hardlink_of_b64)) \(here)"
    elif $symlinks then "ln -sT -- \(word(""; .target; .target_b64)) \(here) || w" else empty end'
done
step cat 'metadata(false)' && step tac 'metadata(true)'; { [ ! -e "$work/lost" ] || cat "$work/lost" >&2; } && say "done, exit code $code" && exit "$code"
