#!/usr/bin/env bash
# Run the node in the foreground: what `make run` does after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/python -m appliance.cli up --build-images
