#!/usr/bin/env bash
# Makes a toolbox for ssh-gateway from the programs of this machine: see docs/ssh-gateway-toolbox.md.
#
#   deploy/toolbox.sh DIRECTORY [--plain]     --plain: busybox only
#
# A static busybox must be here (Debian package busybox-static). rsync and strace come with their loader and libraries,
# and are left out, which is said, where they are not here.
set -euo pipefail

# Where sessions see it: PLACE of ssh-gateway/src/enter/toolbox.rs.
PLACE=/proc/fs/nfsd

# shellcheck source=deploy/say.sh
. "$(dirname "$0")/say.sh"

# Whatever the caller's umask and user are, it is root's and nobody else writes to it.
umask 022

# Applets that are for the first process of a machine, and make no sense in a session.
is_left_out() {
    case $1 in halt | init | linuxrc | poweroff | reboot) return 0 ;; *) return 1 ;; esac
}

is_static() {
    readelf --wide --program-headers "$1" >/dev/null 2>&1 && ! readelf --wide --program-headers "$1" | grep -q INTERP
}

# The texts of licences that come with the packages of what was taken, where Debian keeps them.
add_notices() {
    local file package paths=()
    # A file may be known to its package by another name, where /bin and /usr/bin are one.
    for file in "${taken[@]}"; do paths+=("$file" "${file#/usr}" "/usr$file" "$(realpath "$file")"); done
    for package in $(dpkg-query --search "${paths[@]}" 2>/dev/null | cut -d : -f 1 | sort -u); do
        if [ ! -f "/usr/share/doc/$package/copyright" ]; then continue; fi
        mkdir -p "$directory/notices/share/doc/$package"
        cp --dereference "/usr/share/doc/$package/copyright" "$directory/notices/share/doc/$package/copyright"
    done
}

add_base() {
    local busybox applet
    busybox=$(command -v busybox) || fail "no busybox is here (Debian package busybox-static)"
    is_static "$busybox" || fail "$busybox is not static (Debian package busybox-static)"
    mkdir -p "$directory/base/bin"
    install --mode=755 "$busybox" "$directory/base/bin/busybox"
    for applet in $("$busybox" --list); do
        if [ "$applet" = busybox ] || is_left_out "$applet"; then continue; fi
        ln -s busybox "$directory/base/bin/$applet"
    done
    taken+=("$busybox")
}

# add_program LAYER NAME [PREPARATION]: with its own loader, so that it needs nothing of the image.
add_program() {
    local layer=$1 name=$2 preparation=${3:-} program own library needs loader=
    program=$(command -v "$name") || {
        say "the toolbox gets no $name: it is not on this machine"
        return 0
    }
    needs=$(ldd "$program")
    own=lib/$name
    mkdir -p "$directory/$layer/bin" "$directory/$layer/$own"
    install --mode=755 "$program" "$directory/$layer/$own/$name"
    taken+=("$program")
    while read -r library; do
        install --mode=755 "$library" "$directory/$layer/$own/$(basename "$library")"
        taken+=("$library")
    done < <(awk '$2 == "=>" && $3 ~ "^/" { print $3 }' <<<"$needs")
    loader=$(awk '$1 ~ "^/" && $2 != "=>" { print $1 }' <<<"$needs")
    [ -f "$loader" ] || fail "$program has no loader: $needs"
    taken+=("$loader")
    install --mode=755 "$loader" "$directory/$layer/$own/ld.so"
    cat >"$directory/$layer/bin/$name" <<END
#!$PLACE/bin/sh
$preparation
exec $PLACE/$own/ld.so --inhibit-cache --library-path $PLACE/$own --argv0 $name $PLACE/$own/$name "\$@"
END
    chmod 755 "$directory/$layer/bin/$name"
}

directory=${1:?usage: deploy/toolbox.sh DIRECTORY [--plain]}
[ ! -e "$directory" ] || fail "$directory is there already"
mkdir -p "$directory/notices/share/doc"
cat >"$directory/notices/share/doc/README" <<'END'
These programs are not part of ssh-gateway. They are run as they are, by themselves, from packages of the
distribution on which this toolbox was made; their licences are beside this file. Their source code is that of these
packages, which the distribution offers to everybody (Debian: https://snapshot.debian.org).
END
taken=()
add_base
if [ "${2:-}" != --plain ]; then
    # What the image preloads was made for its own libraries.
    add_program rsync rsync 'unset LD_PRELOAD LD_AUDIT'
    # What is traced gets the environment as it is.
    add_program trace strace
fi
add_notices
say "toolbox in $directory: $(du -sk "$directory" | cut -f 1) KiB"
