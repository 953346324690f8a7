"""The double's `skopeo`: `inspect --raw [--config] containers-storage:[…]@ID` prints the stored bytes."""

import sys
from pathlib import Path

from tests.double.store import Double


def main(root: str, words: list[str]) -> int:
    """Print what was asked for; return the exit code."""
    double = Double(Path(root))
    image = double.find(words[-1].rpartition("@")[2])
    if image is None:
        sys.stderr.write(f'level=fatal msg="reference {words[-1]!r} does not resolve to an image ID"\n')
        return 1
    name = image["Id"] if "--config" in words else image["manifest"]
    sys.stdout.buffer.write(double.blob(name).read_bytes())
    return 0
