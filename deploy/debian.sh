# shellcheck shell=bash
# A Debian with packages as an image, without any registry. Sourced, after say.sh.

# provide_debian IMAGE PACKAGE,… FOLDER: makes the image unless it is there, by way of FOLDER; prints what is missing and fails where this
# machine cannot.
provide_debian() {
    local image=$1 packages=$2 folder=$3 root suite mirror
    docker image inspect "$image" >/dev/null 2>&1 && return
    if [ "$(id -u)" != 0 ]; then
        echo "a Debian is made by debootstrap, which needs root"
        return 1
    fi
    if ! command -v debootstrap >/dev/null; then
        echo "debootstrap is missing: install it"
        return 1
    fi
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    mirror=$(sed -n 's/^URIs: *\(http[^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\).*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    root=$folder/debian
    say "making a Debian $suite with $packages: the first time this takes minutes"
    if ! debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${mirror:+"$mirror"} \
        >"$folder/debootstrap.log" 2>&1; then
        echo "debootstrap: $(tail -n 3 "$folder/debootstrap.log")"
        return 1
    fi
    tar -C "$root" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' --exclude='./dev/*' -c . |
        docker import - "$image" >/dev/null
    rm -rf "$root"
}
