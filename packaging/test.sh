#!/usr/bin/env bash
# Check and test everything: what `make test` does after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$*" $((SECONDS - started)); }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/brookbox-test-XXXXXX")
chmod 755 "$scratch"
dockerd_pid=
clean_up() {
    if [ -n "$dockerd_pid" ]; then
        kill "$dockerd_pid" 2>/dev/null || true
        wait "$dockerd_pid" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT

answers() { docker version >/dev/null 2>&1; }
if [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null && ! answers; then
    step "starting dockerd for the tests"
    dockerd >"$scratch/dockerd.log" 2>&1 </dev/null &
    dockerd_pid=$!
    for _ in $(seq 60); do answers && break; sleep 0.5; done
fi

step "ruff"
"$bin/ruff" check appliance web tests streams benchmarks
step "mypy"
"$bin/mypy"

# The processes that tests start write no bytecode, and as nobody they cannot: without it each
# of them would compile what it imports.
"$bin/python" -m compileall -q appliance web tests

# Tests wait for one another's processes more than they compute: more of them than cores.
together=(-m "not long" -n 4 --dist loadfile --no-loadscope-reorder --durations=10)
# Long ones first, so that no core idles at the end.
in_order=(tests/faults tests/fuzz tests/promises tests/service tests/worker_runs tests/journeys
    tests/web tests/streams tests/architecture tests/unit)
for folder in tests/[a-z]*/; do
    [[ " ${in_order[*]} " == *" ${folder%/} "* ]] || in_order+=("${folder%/}")
done

step "pytest"
"$bin/python" -m pytest "${together[@]}" "${in_order[@]}"

# Root hides every wrong mode: the journeys, the runs and the kills once more without it.
without_root=(tests/faults tests/worker_runs tests/journeys)
if [ "$(id -u)" = 0 ]; then
    step "pytest as nobody, of docker's group"
    socket=/var/run/docker.sock
    groups=(--clear-groups)
    [ -S $socket ] && groups=(--groups "$(stat -c %g $socket)")
    mkdir "$scratch"/{checkout,data,home}
    chown nobody: "$scratch/home"
    data=${BROOKBOX_REAL_DATA:-$scratch/data}
    # The checkout may stand where nobody else may look: it is shown at another place.
    unshare --mount --propagation private bash -c '
        set -e
        mount --bind "$1" "$3/checkout"; mount --bind "$2" "$3/data"; cd "$3/checkout"
        export HOME="$3/home" TMPDIR="$3/home" BROOKBOX_TESTS_UNPRIVILEGED=1
        export PYTHONPATH="$3/checkout" PYTHONDONTWRITEBYTECODE=1
        [ -z "${BROOKBOX_REAL_DATA:-}" ] || export BROOKBOX_REAL_DATA="$3/data"
        shift 3; exec "$@"
    ' - "$PWD" "$data" "$scratch" \
        setpriv --reuid nobody --regid nogroup "${groups[@]}" \
        "$scratch/checkout/.venv/bin/python" -m pytest "${together[@]}" \
        --basetemp "$scratch/home/t" "${without_root[@]}"
fi

if [ "${1:-}" = --long ]; then
    step "pytest, the long ones: one after the other, with their figures"
    "$bin/python" -m pytest -m long -n 0 -s --durations=0 tests
fi
step "all passed"
