"""docs/podman.md names a test for every line, and each of them is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "podman.md").read_text(encoding="utf-8")
ROWS = [
    line for line in DOCUMENT.splitlines() if line.startswith("|") and "---" not in line and not line.endswith("test |")
]
NAMED = re.compile(r"`(\w+/\w+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("row", ROWS)
def test_each_line_names_a_test_that_is_there(row: str) -> None:
    named = NAMED.findall(row.rstrip(" |").rpartition("|")[2])
    assert named
    for file, test in named:
        assert f"def {test}" in (TESTS / file).read_text(encoding="utf-8")
