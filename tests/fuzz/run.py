"""`python -m tests.fuzz.run TARGET FOLDER SECONDS`: fuzz one target with atheris.

The folder gets what was found to be worth changing, and what broke the target, by which it can
be run again.  A crash, an input that takes 10 s, or memory above the limit ends it with an
error.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from pathlib import Path

TARGETS = ("walker", "receiver")
_MOST_MEMORY_MB = 700
_LONGEST_SECONDS = 10
_LONGEST_INPUT = 6000


def main() -> None:
    """Fuzz the target that is named."""
    import atheris

    target, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if target not in TARGETS:
        sys.exit(f"no target {target}; there are {', '.join(TARGETS)}")
    # What pydicom warns of in a million inputs would fill the disk.
    logging.disable()
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["appliance.dicom", "appliance.receiver"]):
        module = importlib.import_module(f"tests.fuzz.{target}")
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(module.seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "timeout": _LONGEST_SECONDS,
        "rss_limit_mb": _MOST_MEMORY_MB,
        "max_len": _LONGEST_INPUT,
        "artifact_prefix": f"{folder}/broke-",
        "print_final_stats": 1,
        "seed": 1,
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], str(corpus), *words], module.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
