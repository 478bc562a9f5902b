"""dcmjs-dimse (npm) as a sender; the tests' set-up installs what `dcmjs/package-lock.json` says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.kit import require
from tests.kit.certificates import Pair

_HERE = Path(__file__).parent / "dcmjs"
# Beside the Python packages of the tests, which are taken away together.
MODULES = Path(__file__).resolve().parents[3] / ".venv" / "dcmjs" / "node_modules"


def send(
    files: Sequence[Path], port: int, called: str, mine: Pair | None = None, ca: Path | None = None
) -> list[int]:
    """Echo, then store in one association; give the statuses that were answered."""
    node = require.program("node", "nodejs")
    if not (MODULES / "dcmjs-dimse").is_dir():
        require.missing("dcmjs-dimse", "packaging/setup.sh test")
    secure = [str(mine.key), str(mine.certificate), str(ca)] if mine else ["", "", ""]
    words = [node, str(_HERE / "send.cjs"), "127.0.0.1", str(port), "DCMJS", called, *secure]
    done = subprocess.run(
        [*words, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NODE_PATH": str(MODULES)},
    )
    assert done.returncode == 0, done.stderr
    statuses: list[int] = json.loads(done.stdout.splitlines()[-1])
    return statuses
