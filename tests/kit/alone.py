"""One process of the node by itself, started as `brookbox up` starts it, but with a prelude."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# What appliance/cli/__main__.py does.
_AS_SUPERVISED = """
import gc, sys
gc.disable()
from appliance.cli.main import main
sys.exit(main())
"""


def command(name: str, home: Path, config: Path, prelude: str = "") -> list[str]:
    """Give the command line of one process.

    `prelude` is Python that runs in it first, to break something.
    """
    words = ["--home", str(home), "--config", str(config), name]
    return [sys.executable, "-c", f"{prelude}\n{_AS_SUPERVISED}", *words]


def environment() -> dict[str, str]:
    """Give its environment: this checkout's code, no setting of the caller's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BROOKBOX_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
