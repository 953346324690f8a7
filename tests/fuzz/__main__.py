"""`python -m tests.fuzz SECONDS [words of pytest]`: fuzz for so many seconds, shared out over the tests."""

import os
import sys

import pytest

from tests.fuzz import campaign


def main() -> int:
    """Run the campaigns; return pytest's exit code."""
    seconds, *words = sys.argv[1:] or ["3600"]
    os.environ[campaign.SECONDS] = seconds
    return int(pytest.main(["tests/fuzz", "-v", "-s", "--timeout=0", *words]))


if __name__ == "__main__":
    sys.exit(main())
