#!/usr/bin/env bash
# Install what the node (run), its checks (lint) or its tests (test) need: Debian packages
# where we are root, and a virtual environment with the locked Python packages.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}
venv=.venv
# shellcheck source=packaging/machine.sh
. packaging/machine.sh

find_python
[ "$what" = lint ] || want_node
if [ "$what" = test ]; then
    want storescu dcmtk
    want Orthanc orthanc
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
    want chromium chromium
    want debootstrap debootstrap
    want mkfs.ext4 e2fsprogs
    want fusermount3 fuse3
    want ip iproute2
    want node nodejs
    want npm npm
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing+=(libfaketime)
    want systemd-analyze systemd
    want shellcheck shellcheck
    want ruby ruby
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        install_missing
    elif has_venv; then
        say "not root: going on without ${missing[*]}"
        say "to have them: sudo apt-get install ${missing[*]}"
    else
        say "Python 3.11 or newer with venv is needed: sudo apt-get install ${missing[*]}"
        exit 1
    fi
fi

if ! [ -x "$venv/bin/python" ]; then
    say "making the virtual environment $venv"
    "$python" -m venv "$venv"
fi
# A stamp of what was installed, so that a second call costs nothing.  The tests' packages
# hold the node's own.
lock=packaging/requirements.lock
kind=run
[ "$what" = run ] || { lock=packaging/requirements-test.lock; kind='test'; }
version=$(cat setup.cfg packaging/requirements*.lock 2>/dev/null | sha256sum | cut -c1-16)
stamp="$venv/.installed-$kind-$version"
if ! [ -e "$stamp" ] && ! [ -e "$venv/.installed-test-$version" ]; then
    say "installing the Python packages"
    install_python "$venv" "$lock" -e .
    rm -f "$venv"/.installed-*
    : >"$stamp"
fi

# dcmjs-dimse, a sender of the tests, beside their Python packages.
if [ "$what" = test ] && has npm; then
    peer=tests/service/interop/dcmjs
    stamp="$venv/dcmjs/.installed-$(sha256sum <"$peer/package-lock.json" | cut -c1-16)"
    if ! [ -e "$stamp" ]; then
        say "installing dcmjs-dimse"
        mkdir -p "$venv/dcmjs"
        cp "$peer"/package*.json "$venv/dcmjs/"
        if npm ci --prefix "$venv/dcmjs" --ignore-scripts --no-audit --no-fund --silent; then
            : >"$stamp"
        else
            say "dcmjs-dimse could not be installed: the tests with it are left out"
        fi
    fi
fi

# Docker: start it where we are root, it is installed, and nothing runs it.
if [ "$what" = run ] && [ "$(id -u)" = 0 ] && has dockerd && ! [ -S /var/run/docker.sock ]; then
    if runs_systemd; then
        systemctl start docker || say "docker did not start: streams run as plain processes"
    fi
fi
