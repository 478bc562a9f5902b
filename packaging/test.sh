#!/usr/bin/env bash
# Check and test everything: what `make test` does after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$*" $((SECONDS - started)); }

dockerd_pid=
stop_dockerd() {
    [ -z "$dockerd_pid" ] || { kill "$dockerd_pid" 2>/dev/null && wait "$dockerd_pid" 2>/dev/null; } || true
}
trap stop_dockerd EXIT

if [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null && ! docker version >/dev/null 2>&1; then
    step "starting dockerd for the tests"
    dockerd >/tmp/brookbox-test-dockerd.log 2>&1 </dev/null &
    dockerd_pid=$!
    for _ in $(seq 60); do docker version >/dev/null 2>&1 && break; sleep 0.5; done
fi

step "ruff"
$bin/ruff check appliance web tests streams
step "mypy"
$bin/mypy
step "pytest"
long=(-m "not long")
[ "${1:-}" = --long ] && long=()
$bin/python -m pytest --durations=15 "${long[@]}" tests
