#!/usr/bin/env bash
# Install the node from this folder and from nothing else: no network is needed or used.
#
#   install.sh [--no-docker] [--no-start]    as root; may be run again
#
#   --no-docker    leave Docker out: trusted streams run as plain processes
#   --no-start     install, and start nothing
set -euo pipefail
umask 022
cd "$(dirname "$0")"
here=$PWD
docker=yes rest=()
for word in "$@"; do
    case $word in
    --no-docker) docker='' ;;
    --no-start) rest+=("$word") ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        [ "$word" = --help ] && exit 0
        exit 2
        ;;
    esac
done

# Before anything of it is used, this file's own helpers too.
printf 'bundle: checking what arrived\n' >&2
if ! sha256sum --check --quiet SHA256SUMS >&2; then
    printf 'bundle: the bundle is damaged or was changed: copy it again\n' >&2
    exit 1
fi
extra=$(find . -type f ! -name SHA256SUMS | LC_ALL=C sort |
    LC_ALL=C comm -23 - <(cut -c67- SHA256SUMS | LC_ALL=C sort))
if [ -n "$extra" ]; then
    printf 'bundle: this is not of the bundle: %s\n' "$extra" >&2
    exit 1
fi
# shellcheck source=packaging/machine.sh
. packaging/machine.sh
speaker=bundle
release='' machine=''  # bundle.conf says which
# shellcheck source=/dev/null
. ./bundle.conf
# shellcheck source=/dev/null
. /etc/os-release
if [ "$ID $VERSION_ID" != "$release" ] || [ "$(dpkg --print-architecture)" != "$machine" ]; then
    say "this bundle is for $release on $machine; this is $ID $VERSION_ID on" \
        "$(dpkg --print-architecture)"
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    say "this needs root: sudo $0"
    exit 1
fi

# apt sees only the bundle, and takes what this machine lacks; its own lists stay as they are.
lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT
echo "deb [trusted=yes] file:${here// /%20}/debs ./" >"$lists/bundle.list"
mkdir -p "$lists/state/partial" "$lists/cache/archives/partial"
apt_options=(
    -o Dir::Etc::sourcelist="$lists/bundle.list" -o Dir::Etc::sourceparts=-
    -o Dir::State::lists="$lists/state" -o Dir::Cache="$lists/cache" -o APT::Sandbox::User=root
)
find_python
want gearmand gearman-job-server
want setpriv util-linux
if [ -n "$docker" ]; then
    want dockerd docker.io
    # Where the kernel has AppArmor on, Docker starts no container without its parser.
    ! grep -qs Y /sys/module/apparmor/parameters/enabled || want apparmor_parser apparmor
fi
install_missing

[ -z "$docker" ] || rest+=(--docker)
if [ -n "$docker" ] && [ -e images.tar.gz ]; then
    if runs_systemd && has dockerd; then systemctl start docker || true; fi
    if ! docker version >/dev/null 2>&1; then
        say "Docker does not run, so the images wait. When it does: run this again"
    elif xargs docker image inspect <images.txt >/dev/null 2>&1; then
        say "the images are here already"
    else
        say "loading the images"
        gzip -dc images.tar.gz | docker load >&2
    fi
fi
packaging/systemd/install.sh --wheels "$here/wheels" "${rest[@]}"
