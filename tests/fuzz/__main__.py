"""`python -m tests.fuzz SECONDS [words of pytest]`: fuzz for so many seconds, shared out over the tests."""

import os
import subprocess
import sys

from tests.fuzz import campaign


def main() -> int:
    """Run the campaigns; return pytest's exit code."""
    seconds, *words = sys.argv[1:] or ["3600"]
    # a process of its own: pytest warns, and here a warning is an error, if hypothesis was imported before it
    command = [sys.executable, "-m", "pytest", "tests/fuzz", "-v", "-s", "--timeout=0", *words]
    return subprocess.run(command, check=False, env=os.environ | {campaign.SECONDS: seconds}).returncode


if __name__ == "__main__":
    sys.exit(main())
