#!/usr/bin/env bash
# Make one tar that installs the node on a machine without network: `make bundle`.
#
# It is for machines of this one's kind: the same release of Debian or Ubuntu, Python and
# processor.  In it: wheels, the distribution's packages with all that they need beyond its
# smallest installation, the images of the shipped streams, and install.sh.  As root, with
# debootstrap, Docker and a network.
#
#   make.sh [--without-images]    to dist/; the streams then run as plain processes
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
# shellcheck source=packaging/machine.sh
. packaging/machine.sh
speaker=bundle
venv=$PWD/.venv
packages=(python3 python3-venv gearman-job-server docker.io apparmor util-linux)

with_images=yes
[ "${1:-}" != --without-images ] || with_images=''
if [ "$(id -u)" != 0 ]; then
    say "this needs root, for debootstrap: sudo make bundle"
    exit 1
fi
want debootstrap debootstrap
install_missing

if [ "$("$venv/bin/python" -V)" != "$(/usr/bin/python3 -V)" ]; then
    say "the wheels must be those of the distribution's Python, and $venv has another"
    exit 1
fi
# shellcheck source=/dev/null
. /etc/os-release
machine=$(dpkg --print-architecture)
version=$("$venv/bin/python" -c 'import appliance; print(appliance.__version__)')
name=brookbox-$version-$ID$VERSION_ID-$machine
work=build/bundle
place=$work/$name
rm -rf "${work:?}/$name" "$work/source"
mkdir -p "$place/wheels" "$place/debs" "$place/packaging" "$place/docs" dist

wheels() {
    say "fetching the wheels of the lock"
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: -r packaging/requirements.lock -d "$place/wheels"
    # pip builds where the source stands: not in the checkout.
    mkdir -p "$work/source"
    tar -cf - --exclude=__pycache__ --exclude='*.egg-info' \
        appliance web streams setup.cfg pyproject.toml README.md LICENSE |
        tar -C "$work/source" -xf -
    "$venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation -w "$place/wheels" "$work/source"
    rm -rf "$work/source"
}

# What a fresh, smallest installation has already; made once a day.
smallest() {
    status=$work/minbase-$VERSION_CODENAME.status
    if [ -n "$(find "$status" -mmin -1440 2>/dev/null)" ]; then return; fi
    say "making the smallest $VERSION_CODENAME, to see what it has"
    local root
    root=$(mktemp -d)
    debootstrap --variant=minbase "$VERSION_CODENAME" "$root" >"$work/debootstrap.log" 2>&1 || {
        tail -n 5 "$work/debootstrap.log" >&2
        say "debootstrap failed; its log is $work/debootstrap.log"
        exit 1
    }
    cp "$root/var/lib/dpkg/status" "$status.new"
    mv "$status.new" "$status"
    rm -rf --one-file-system "$root"
}

debs() {
    smallest
    say "fetching the packages of $PRETTY_NAME, with what they need"
    apt-get update -qq
    mkdir -p "$work/archives/partial"
    rm -f "$work"/archives/*.deb
    # This machine's sources and keys, but the packages that the smallest one has.
    apt-get -qq -y --download-only --no-install-recommends \
        -o Dir::State::status="$PWD/$status" -o Dir::Cache::archives="$PWD/$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=true \
        -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root \
        install "${packages[@]}" >"$work/apt.log" 2>&1 || {
        tail -n 20 "$work/apt.log" >&2
        exit 1
    }
    local deb
    for deb in "$work"/archives/*.deb; do
        mv "$deb" "$place/debs/"
        deb=${deb##*/}
        deb=$place/debs/$deb
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -c %s "$deb")" \
            "$(sha256sum "$deb" | cut -d' ' -f1)"
    done >"$place/debs/Packages"
}

images() {
    say "saving the images of the shipped streams"
    "$venv/bin/python" -m appliance.cli streams build >&2
    local names=() base
    for base in python:3.11-slim brookbox/debian-base:bookworm; do
        ! docker image inspect "$base" >/dev/null 2>&1 || { names+=("$base") && break; }
    done
    names+=(brookbox/base:1.0.0 brookbox/echo:1.0.0 brookbox/montage:1.0.0)
    docker save "${names[@]}" | gzip -6 >"$place/images.tar.gz"
    printf '%s\n' "${names[@]}" >"$place/images.txt"
}

wheels
debs
[ -z "$with_images" ] || images
cp packaging/bundle/install.sh packaging/bundle/README.md LICENSE "$place"
cp packaging/machine.sh packaging/requirements.lock "$place/packaging"
cp -r packaging/systemd "$place/packaging/systemd"
cp docs/install.md docs/connect.md "$place/docs"
cat >"$place/bundle.conf" <<CONF
# For which machines this bundle is; install.sh asks.
release='$ID $VERSION_ID'
machine='$machine'
CONF
(cd "$place" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$work/sums"
mv "$work/sums" "$place/SHA256SUMS"
tar -C "$work" --owner=0 --group=0 --sort=name -cf "dist/$name.tar.new" "$name"
mv "dist/$name.tar.new" "dist/$name.tar"
(cd dist && sha256sum "$name.tar" >"$name.tar.sha256")
rm -rf "$place"
say "dist/$name.tar: $(du -h "dist/$name.tar" | cut -f1). Its digest, to compare where it arrives:"
cat "dist/$name.tar.sha256"
