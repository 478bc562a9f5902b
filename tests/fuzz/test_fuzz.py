"""Neither the walker nor the reader of PDUs crashes, hangs or grows, whatever it is given."""

from __future__ import annotations

import importlib
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import TARGETS
from tests.kit import require

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 30  # of each target: a minute in all


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_is_near_them_pass(target: str) -> None:
    module = importlib.import_module(f"tests.fuzz.{target}")
    dice = random.Random(target)
    seeds = list(module.seeds())
    assert len(seeds) > 20
    for seed in seeds:
        module.one_input(seed)
        for _ in range(10):
            changed = bytearray(seed)
            for _ in range(dice.randrange(1, 5)):
                changed[dice.randrange(len(changed))] = dice.choice(
                    (0, 1, 255, dice.randrange(256))
                )
            module.one_input(bytes(changed[: dice.randrange(1, len(changed) + 1)]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.timeout(SECONDS + 240)
def test_fuzzed_for_half_a_minute_nothing_breaks(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        if sys.version_info[:2] >= (3, 14):
            pytest.skip("atheris is missing: it has no wheel for this Python")
        require.missing("atheris", "pip install 'atheris>=3,<4'")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", target, str(tmp_path), str(SECONDS)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 200,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert list(tmp_path.glob("broke-*")) == []
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    assert runs is not None, said[-2000:]
    assert int(runs[1]) > 1000
