"""Every row of bad input, fault and attack that the node answers for has a test of its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    *(f"bi_{row:02}" for row in [*range(1, 15), 17, 22]),
    *(f"ft_{row:02}" for row in [*range(9, 22), *range(28, 34), *range(37, 41)]),
    *(f"at_{row:02}" for row in [6, 8, 24, 25, 26, 30]),
]


@pytest.fixture(scope="module")
def named() -> set[str]:
    """The rows that names of tests begin with."""
    texts = (path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    return {row for text in texts for row in re.findall(r"^def test_([a-z]{2}_\d\d)_", text, re.M)}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_has_a_test_of_its_name(row: str, named: set[str]) -> None:
    assert row in named
