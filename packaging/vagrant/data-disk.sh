#!/usr/bin/env bash
# Give the node's data a disk of its own, and let it fill that disk when the disk has grown.
#
#   data-disk.sh [DEVICE [FOLDER [FSTAB]]]
#
# Without DEVICE it is the disk that bears our label, or the only one that is empty.  The whole
# disk is one file system, without partitions: there is one thing less to grow.  What holds
# anything is never formatted.
set -euo pipefail
device=${1:-} folder=${2:-/var/lib/brookbox} fstab=${3:-/etc/fstab}
label=brookbox-data
say() { printf 'data disk: %s\n' "$*" >&2; }

label_of() { blkid -p -o value -s LABEL "$1" 2>/dev/null || true; }

is_empty() {  # no file system, no partitions, nothing that anybody knows
    [ "$(lsblk -nro NAME "$1" 2>/dev/null | wc -l)" = 1 ] && [ -z "$(wipefs --noheadings "$1")" ]
}

find_device() {
    local one empty=()
    while read -r one; do
        if [ "$(label_of "$one")" = "$label" ]; then
            device=$one
            return
        fi
        ! is_empty "$one" || empty+=("$one")
    done < <(lsblk -dnrpo NAME,TYPE | awk '$2 == "disk" && $1 !~ /zram/ {print $1}')
    if [ ${#empty[@]} = 1 ]; then
        device=${empty[0]}
    elif [ ${#empty[@]} -gt 1 ]; then
        say "several disks are empty (${empty[*]}): say which one, $0 DEVICE"
        exit 1
    fi
}

[ -n "$device" ] || find_device
if [ -z "$device" ]; then
    say "there is no second disk: the data stays on that of the system"
    exit 0
fi
if ! mountpoint -q "$folder"; then
    if [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
        say "$folder holds data already, which the disk would hide: move it first"
        exit 1
    fi
    if is_empty "$device"; then
        say "making a file system on $device"
        mkfs.ext4 -q -m 1 -L "$label" "$device"
    elif [ "$(label_of "$device")" != "$label" ]; then
        say "$device holds something that is not ours: nothing was done"
        exit 1
    fi
fi
# A machine without its data disk starts, so that one can look; the node then does not, since
# its unit needs this mount.  systemd grows the file system at each boot.
if ! grep -q "LABEL=$label" "$fstab"; then
    say "$folder is on $device from now on"
    echo "LABEL=$label $folder ext4 defaults,nofail,x-systemd.growfs 0 2" >>"$fstab"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
fi
# It is checked and grown before it is mounted, or grown while it is in use.
mounted=yes
mountpoint -q "$folder" || mounted=''
checked=0
[ -n "$mounted" ] || said=$(e2fsck -fp "$device" 2>&1) || checked=$?
if [ "$checked" -gt 1 ]; then  # 1 is: it was mended
    say "$device is in use elsewhere, or damaged, and was not mounted: ${said//$'\n'/; }"
    exit 1
fi
if ! said=$(resize2fs "$device" 2>&1); then
    say "it was not grown: ${said//$'\n'/; }"
fi
if [ -z "$mounted" ]; then
    mkdir -p "$folder"
    mount "$device" "$folder"
fi
