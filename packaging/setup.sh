#!/usr/bin/env bash
# Install what the node (run), its checks (lint) or its tests (test) need: Debian packages
# where we are root, and a virtual environment with the locked Python packages.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}
venv=.venv

run_packages=(gearman-job-server docker.io util-linux)
test_packages=(dcmtk orthanc postgresql chromium debootstrap e2fsprogs)

say() { printf 'setup: %s\n' "$*" >&2; }

has() { PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }

missing=()
want() {  # want PROGRAM PACKAGE
    has "$1" || missing+=("$2")
}

# A venv made by a Python that other users cannot reach (such as one below /root) could not
# run streams as another user; the distribution's Python can.
python=/usr/bin/python3
if ! [ -x "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$(command -v python3.13 || command -v python3.12 || command -v python3.11 || true)
fi
if [ -z "${python:-}" ]; then
    missing+=(python3)
    python=/usr/bin/python3
fi
{ [ -x "$python" ] && "$python" -c 'import ensurepip, venv' 2>/dev/null; } || missing+=(python3-venv)

if [ "$what" != lint ]; then
    want gearmand gearman-job-server
    want dockerd docker.io
    want setpriv util-linux
fi
if [ "$what" = test ]; then
    want storescu dcmtk
    want Orthanc orthanc
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
    want chromium chromium
    want debootstrap debootstrap
    want mkfs.ext4 e2fsprogs
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        # The node starts its own gearmand; the distribution's services stay off, but Docker
        # where systemd can start it.
        policy=/usr/sbin/policy-rc.d
        made_policy=
        if ! [ -e "$policy" ]; then
            allowed='none'
            [ -d /run/systemd/system ] && allowed='docker|docker.socket|containerd'
            printf '#!/bin/sh\ncase "$1" in %s) exit 0;; esac\nexit 101\n' "$allowed" >"$policy"
            chmod +x "$policy"
            made_policy=1
        fi
        log=$(mktemp)
        apt-get update -qq
        status=0
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 || status=$?
        [ -z "$made_policy" ] || rm -f "$policy"
        if [ "$status" != 0 ]; then
            tail -n 20 "$log" >&2
            say "apt-get could not install ${missing[*]}; its last words stand above"
            exit "$status"
        fi
        rm -f "$log"
    elif [ -x "$python" ] && "$python" -c 'import ensurepip, venv' 2>/dev/null; then
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
lock=packaging/requirements.lock
# A stamp of what was installed, so that a second call costs nothing.  The tests' packages
# hold the node's own.
extras=postgresql
[ "$what" = run ] || extras=test,postgresql
version=$( { cat setup.cfg "$lock" 2>/dev/null; } | sha256sum | cut -c1-16)
stamp="$venv/.installed-$extras-$version"
if ! [ -e "$stamp" ] && ! [ -e "$venv/.installed-test,$extras-$version" ]; then
    say "installing the Python packages"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$lock" \
        'setuptools>=68' wheel
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation \
        -c "$lock" -e ".[$extras]"
    rm -f "$venv"/.installed-*
    : >"$stamp"
fi

# Docker: start it where we are root, it is installed, and nothing runs it.
if [ "$what" = run ] && [ "$(id -u)" = 0 ] && has dockerd && ! [ -S /var/run/docker.sock ]; then
    if [ -d /run/systemd/system ]; then
        systemctl start docker || say "docker did not start: streams run as plain processes"
    fi
fi
