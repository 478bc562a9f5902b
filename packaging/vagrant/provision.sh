#!/usr/bin/env bash
# Make a Debian machine a node: its data disk, and the service.  May be run again and again.
#
#   provision.sh nat        its senders come by a forwarded port, so from one address
#   provision.sh bridged    it has an address of its own in the senders' network
set -euo pipefail
# vagrant runs a copy of this file; the checkout is where the Vagrantfile puts it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -e "$here/data-disk.sh" ] || here=/brookbox/packaging/vagrant
network=${1:-nat}
settings=/etc/brookbox/brookbox.yaml
say() { printf 'provision: %s\n' "$*" >&2; }

"$here/data-disk.sh"

wanted=true
[ "$network" = nat ] || wanted=false
first=$(mktemp)
trap 'rm -f "$first"' EXIT
sed "s/behind_nat: true/behind_nat: $wanted/" "$here/brookbox.yaml" >"$first"
"$here/../systemd/install.sh" --docker --settings "$first"
if ! grep -q "behind_nat: $wanted" "$settings"; then
    say "the network is $network now, and $settings says otherwise. Put in, below receiver:"
    say "  behind_nat: $wanted"
    say "then: sudo systemctl reload brookbox"
fi

if docker version >/dev/null 2>&1; then
    brookbox streams build || say "images are missing: ECHO and MONTAGE run as plain processes"
else
    say "Docker does not run: ECHO and MONTAGE run as plain processes"
fi
say "DICOM: port 11113. Page: http://127.0.0.1:2813/ on the host. Its access key:"
say "  vagrant ssh -c 'sudo cat /var/lib/brookbox/data/access.key'"
