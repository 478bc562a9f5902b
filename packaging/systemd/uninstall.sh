#!/usr/bin/env bash
# Take the service and the program away; settings, data and the user that owns them stay.
#
#   uninstall.sh                  may be run twice; install.sh goes on from what was left
#   uninstall.sh --purge [--yes]  asks, then removes settings, data and user too
#
# DESTDIR=FOLDER removes only the files that install.sh laid down below FOLDER.
set -euo pipefail
root=${DESTDIR:-}
say() { printf 'uninstall: %s\n' "$*" >&2; }

purge='' yes=''
for word in "$@"; do
    case $word in
    --purge) purge=yes ;;
    --yes) yes=yes ;;
    *)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        [ "$word" = --help ] && exit 0
        exit 2
        ;;
    esac
done
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
    say "this needs root: sudo $0"
    exit 1
fi

# Asked first: whoever says no has still everything.
if [ -n "$purge" ] && [ -z "$yes" ]; then
    if ! [ -t 0 ]; then
        say "nobody can be asked here: --purge needs --yes"
        exit 2
    fi
    printf 'Remove every study, result and setting of the node on this machine? Type yes: ' >&2
    read -r answer
    if [ "$answer" != yes ]; then
        say "nothing was removed"
        exit 1
    fi
fi

systemd=''
[ -n "$root" ] || ! [ -d /run/systemd/system ] || systemd=yes
if [ -z "$root" ] && [ -z "$systemd" ] &&
    grep -qs '[b]rookbox/venv/bin\|[b]rookbox/releases' /proc/[0-9]*/cmdline; then
    say "the node runs, and systemd does not: stop it first (Ctrl-C where it was started)"
    exit 1
fi
for unit in brookbox brookbox-worker; do
    if [ -n "$systemd" ] && [ -e "/etc/systemd/system/$unit.service" ]; then
        say "stopping $unit"
        systemctl disable -q --now "$unit"
    fi
    rm -f "$root/etc/systemd/system/$unit.service"
done
rm -f "$root/etc/systemd/system/brookbox.service.d/low-port.conf"
rmdir "$root/etc/systemd/system/brookbox.service.d" 2>/dev/null || true
[ -z "$systemd" ] || systemctl daemon-reload
rm -f "$root/usr/lib/sysusers.d/brookbox.conf" "$root/usr/lib/tmpfiles.d/brookbox.conf" \
    "$root/usr/local/bin/brookbox"
rm -rf "$root/opt/brookbox"

if [ -z "$purge" ]; then
    say "the program is gone. Left: $root/var/lib/brookbox, $root/etc/brookbox, the user brookbox."
    exit 0
fi
# What is mounted there is a disk of its own: it is emptied, not taken away.
find "$root/var/lib/brookbox" -mindepth 1 -delete 2>/dev/null || true
rmdir "$root/var/lib/brookbox" 2>/dev/null || true
rm -rf "$root/etc/brookbox"
if [ -z "$root" ] && getent passwd brookbox >/dev/null; then
    userdel brookbox
fi
say "all of it is gone. Packages of the distribution (gearman-job-server, docker.io) stay."
