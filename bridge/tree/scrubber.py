"""The program that reads blobs again: `python -m bridge.tree.scrubber TREE AFTER SECONDS RATE`, one slice.

A process of its own at idle priority, as the encoder. It prints what it found as one line of JSON.
"""

import sys
from pathlib import Path

import msgspec

from bridge.tree.encoder import yield_to_everybody
from bridge.tree.scrubbing import Limit, scrub


def main() -> int:
    """Read a slice of the tree; exit code 1 if the tree cannot be read."""
    root, after, seconds, rate = sys.argv[1:]
    yield_to_everybody()
    try:
        done = scrub(Path(root), after, Limit(float(seconds), int(rate)))
    except OSError as error:
        sys.stderr.write(f"cannot read blobs: {error.filename or root}: {error.strerror}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
