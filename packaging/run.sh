#!/usr/bin/env bash
# Run the node in the foreground: what `make run` does after the set-up.  The images of the
# shipped streams are built behind it; until they are there the streams run as plain processes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
(umask 077 && mkdir -p data/logs)  # what the node keeps is for its user alone
if docker version >/dev/null 2>&1 && command -v setpriv >/dev/null; then
    # It ends with the node: exec keeps our pid, which is its parent.
    setpriv --pdeathsig TERM "$python" -m appliance.cli streams build \
        >data/logs/streams-build.log 2>&1 </dev/null &
fi
exec "$python" -m appliance.cli up
