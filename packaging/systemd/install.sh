#!/usr/bin/env bash
# Install the node as a service of systemd; over an older one too, and as often as you like.
#
#   install.sh [--docker] [--no-start] [--settings FILE] [--wheels FOLDER]
#   install.sh --worker [...]     a further machine of a node: its worker alone
#
#   --docker           let the node use Docker: whoever may do that is root on this machine
#   --no-start         install, and start nothing
#   --settings FILE    what /etc/brookbox/brookbox.yaml is to be, where there is none yet
#   --wheels FOLDER    take the Python packages from there, and never from the network
#
# DESTDIR=FOLDER lays only the files down, below FOLDER.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
packaging=$(dirname "$here")
# shellcheck source=packaging/machine.sh
. "$packaging/machine.sh"
speaker=install
root=${DESTDIR:-}
home=$root/opt/brookbox

unit=brookbox other=brookbox-worker settings='' docker='' start=yes wheels=''
while [ $# -gt 0 ]; do
    case $1 in
    --worker) unit=brookbox-worker other=brookbox ;;
    --docker) docker=yes ;;
    --no-start) start='' ;;
    --settings) settings=${2:?--settings needs a file} && shift ;;
    --wheels) wheels=$(cd "${2:?--wheels needs a folder}" && pwd) && shift ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        [ "$1" = --help ] && exit 0
        exit 2
        ;;
    esac
    shift
done
settings=${settings:-$here/$unit.yaml}

changed=''
lay() {  # lay FILE TARGET [MODE]: what is the same already is left alone
    local target=$root$2
    if ! cmp -s "$1" "$target"; then
        install -D -m "${3:-0644}" "$1" "$target.new"
        mv -T "$target.new" "$target"
        changed=yes
    fi
}

lay_files() {
    lay "$here/$unit.service" "/etc/systemd/system/$unit.service"
    lay "$here/sysusers.conf" /usr/lib/sysusers.d/brookbox.conf
    lay "$here/tmpfiles.conf" /usr/lib/tmpfiles.d/brookbox.conf
    lay "$here/brookbox" /usr/local/bin/brookbox 0755
    lay "$here/uninstall.sh" /opt/brookbox/share/uninstall.sh 0755
    lay "$packaging/../docs/install.md" /opt/brookbox/share/install.md
}

make_user_and_folders() {
    if ! getent passwd brookbox >/dev/null; then
        say "making the user brookbox"
        if has systemd-sysusers; then
            systemd-sysusers /usr/lib/sysusers.d/brookbox.conf
        else
            useradd --system --user-group --no-create-home --home-dir /var/lib/brookbox \
                --shell /usr/sbin/nologin --comment 'Brookbox DICOM node' brookbox
        fi
    fi
    if has systemd-tmpfiles; then
        systemd-tmpfiles --create /usr/lib/tmpfiles.d/brookbox.conf
    else
        awk '$1 == "d" {print $3, $4, $5, $2}' "$here/tmpfiles.conf" |
            while read -r mode owner group folder; do
                install -d -m "$mode" -o "$owner" -g "$group" "$folder"
            done
    fi
}

lay_settings() {
    local target=$root/etc/brookbox/brookbox.yaml
    [ -e "$target" ] && return
    install -D -m 0640 "$settings" "$target.new"
    [ -n "$root" ] || chgrp brookbox "$target.new"
    mv -T "$target.new" "$target"
    say "the settings stand in $target"
}

# A release is made whole beside the one that runs, and a link is set to it: an installation
# that is cut off leaves the old one as it was.
install_program() {
    local ours release
    source=$(mktemp -d)
    trap 'rm -rf "$source"' EXIT
    if [ -n "$wheels" ]; then
        pip_options=(--no-index --find-links "$wheels")
        cp "$wheels"/brookbox-*.whl "$source"
        ours=$(echo "$source"/brookbox-*.whl)
    else
        # pip builds where the source stands: not in the checkout.
        ours=$source
        (cd "$packaging/.." && tar -cf - --exclude=__pycache__ --exclude='*.egg-info' \
            appliance web streams setup.cfg pyproject.toml README.md LICENSE) |
            tar -C "$source" -xf -
    fi
    release=releases/$( (
        "$python" -V
        cd "$source"
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        sha256sum <"$packaging/requirements.lock"
    ) | sha256sum | cut -c1-16)
    if ! [ -e "$home/$release/.whole" ]; then
        say "installing the program in $home/$release"
        rm -rf "${home:?}/$release"
        mkdir -p "$home/releases"
        "$python" -m venv "$home/$release"
        install_python "$home/$release" "$packaging/requirements.lock" "$ours"
        : >"$home/$release/.whole"
    fi
    if [ "$(readlink "$home/venv" || true)" != "$release" ]; then
        ln -sfn "$release" "$home/venv.new"
        mv -T "$home/venv.new" "$home/venv"
        changed=yes
    fi
}

# The lowest port that the node listens on; 0 when the settings cannot be read.
lowest_port() {
    "$home/venv/bin/python" -c '
import pathlib
from appliance.settings_file import load
node = load(pathlib.Path("/etc/brookbox/brookbox.yaml"), pathlib.Path("/var/lib/brookbox"), {})
print(min(node.receiver.port, node.web.port))' 2>/dev/null || echo 0
}

allow_low_port() {
    local port place=/etc/systemd/system/brookbox.service.d/low-port.conf
    port=$(lowest_port)
    if [ "$port" = 0 ]; then
        say "the settings have mistakes: sudo brookbox config check"
    elif [ "$port" -lt 1024 ]; then
        lay "$here/low-port.conf" "$place"
    elif [ -e "$place" ]; then
        rm "$place"
        changed=yes
    fi
}

allow_docker() {
    if ! getent group docker >/dev/null; then
        say "there is no group docker: install docker.io, then run this again"
    elif [[ " $(id -nG brookbox) " != *" docker "* ]]; then
        usermod -aG docker brookbox
        changed=yes
        say "the node may use Docker now. Whoever may use Docker's socket is root on this machine;"
        say "to take it back: gpasswd -d brookbox docker; systemctl restart $unit"
    fi
    if runs_systemd && has dockerd && ! systemctl start docker; then
        say "docker did not start: trusted streams run as plain processes until it does"
    fi
}

tell_of_gearmand() {
    if [ "$unit" = brookbox ] && systemctl is-enabled -q gearman-job-server 2>/dev/null; then
        say "a gearmand of Debian's was here before, and has port 4730. If nobody else uses it:"
        say "  systemctl disable --now gearman-job-server; systemctl restart brookbox"
        say "or let the node use it, in /etc/brookbox/brookbox.yaml: queue: {start_gearmand: false}"
    fi
}

start_service() {
    systemctl daemon-reload
    tell_of_gearmand
    if [ -z "$start" ]; then
        say "nothing was started (--no-start). To start it: systemctl enable --now $unit"
        return
    fi
    systemctl enable -q "$unit"
    if ! systemctl is-active -q "$unit"; then
        say "starting $unit"
        systemctl restart "$unit" || failed=yes
    elif [ -n "$changed" ]; then
        say "starting $unit again with what is new"
        systemctl restart "$unit" || failed=yes
    fi
    if [ -n "${failed:-}" ]; then
        journalctl -u "$unit" -n 20 --no-pager -o cat >&2 || true
        say "$unit did not start; its last words stand above"
        exit 1
    fi
    # Nothing runs from the older releases any more.
    find "$home/releases" -mindepth 1 -maxdepth 1 ! -name "$(basename "$(readlink "$home/venv")")" \
        -exec rm -rf {} +
}

if [ -e "$root/etc/systemd/system/$other.service" ]; then
    say "$other is installed here already. To change over: $home/share/uninstall.sh, then this"
    exit 1
fi
if [ -n "$root" ]; then
    lay_files
    lay_settings
    say "the files were laid down below $root, and nothing else was done"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    say "this needs root: sudo $0"
    exit 1
fi
find_python
want setpriv util-linux
[ "$unit" != brookbox ] || want gearmand gearman-job-server
[ -z "$docker" ] || want dockerd docker.io
install_missing
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "Python 3.11 or newer is needed (Debian 12, Ubuntu 24.04, or newer)"
    exit 1
fi
lay_files
make_user_and_folders
lay_settings
install_program
allow_low_port
[ -z "$docker" ] || allow_docker
if runs_systemd; then
    start_service
else
    say "systemd does not run here (it is not process 1), so the service is not started. By hand:"
    if [ "$unit" = brookbox ]; then say "  brookbox up"; else say "  brookbox worker"; fi
fi
say "installed. Settings: /etc/brookbox/brookbox.yaml. Data: /var/lib/brookbox."
say "Ask it: sudo brookbox status; sudo brookbox doctor. Take it away: $home/share/uninstall.sh"
