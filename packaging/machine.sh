# shellcheck shell=bash
# What every set-up needs of a Debian or Ubuntu machine: `make run`, the service, the bundle.
# Sourced, not run.  `missing` gathers packages, `install_missing` brings them.

python=''  # find_python says which
missing=()
# The bundle names its own source of packages in these two.
apt_options=()
pip_options=()

say() { printf '%s: %s\n' "${speaker:-setup}" "$*" >&2; }

has() { PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }

want() {  # want PROGRAM PACKAGE
    has "$1" || missing+=("$2")
}

runs_systemd() { [ -d /run/systemd/system ]; }

want_node() {  # what `brookbox up` starts, and what runs the streams
    want gearmand gearman-job-server
    want dockerd docker.io
    want setpriv util-linux
}

# A venv made by a Python that other users cannot reach (such as one below /root) could not
# run streams as another user; the distribution's Python can.
find_python() {
    python=/usr/bin/python3
    if ! [ -x "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
    then
        python=$(command -v python3.13 || command -v python3.12 || command -v python3.11 || true)
    fi
    if [ -z "$python" ]; then
        missing+=(python3)
        python=/usr/bin/python3
    fi
    has_venv || missing+=(python3-venv)
}

has_venv() { [ -x "$python" ] && "$python" -c 'import ensurepip, venv' 2>/dev/null; }

# The node starts a gearmand of its own.  Masked before it comes, the distribution's service
# is started neither now nor at the next boot; one that is here already is left alone.
keep_gearmand_off() {
    local unit=/etc/systemd/system/gearman-job-server.service
    [[ " ${missing[*]} " == *" gearman-job-server "* ]] || return 0
    if ! [ -e "$unit" ] && ! [ -L "$unit" ]; then
        mkdir -p "${unit%/*}"
        ln -s /dev/null "$unit"
        say "Debian's own gearman service stays off (masked): the node starts its own gearmand"
    fi
}

install_missing() {  # as root
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    keep_gearmand_off
    export DEBIAN_FRONTEND=noninteractive
    # The distribution's services stay off, but Docker where systemd can start it.
    local policy=/usr/sbin/policy-rc.d mark="# Brookbox's set-up made this, and takes it away."
    local allowed=none made_policy='' log status=0
    # One that a killed set-up left is made anew; anybody else's stays.
    if ! [ -e "$policy" ] || grep -qxF "$mark" "$policy"; then
        ! runs_systemd || allowed='docker|docker.socket|containerd'
        printf '#!/bin/sh\n%s\ncase "$1" in %s) exit 0;; esac\nexit 101\n' \
            "$mark" "$allowed" >"$policy"
        chmod +x "$policy"
        made_policy=1
    fi
    log=$(mktemp)
    apt-get "${apt_options[@]}" update -qq >"$log" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        apt-get "${apt_options[@]}" install -y -qq --no-install-recommends "${missing[@]}" \
            >"$log" 2>&1 || status=$?
    fi
    [ -z "$made_policy" ] || rm -f "$policy"
    if [ "$status" != 0 ]; then
        tail -n 20 "$log" >&2
        say "apt-get could not install ${missing[*]}; its last words stand above"
        exit "$status"
    fi
    rm -f "$log"
    missing=()
}

# install_python VENV LOCK OURS...: only files whose digests the lock names, and our own
# package (a folder, a wheel, or -e and a folder), which needs nothing beside them.
install_python() {
    local venv=$1 lock=$2
    shift 2
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps)
    "${pip[@]}" "${pip_options[@]}" --require-hashes --only-binary :all: -r "$lock"
    "${pip[@]}" "${pip_options[@]}" --no-build-isolation "$@"
}
