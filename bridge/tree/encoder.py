"""The program that makes encodings: `python -m bridge.tree.encoder TREE SPACE`, one pass, then it exits.

A process of its own, since what runs at idle priority must not hold the interpreter lock of what
answers pulls. It prints what it did as one line of JSON, and what was wrong on standard error.
"""

import os
import sys
from pathlib import Path

import msgspec

from bridge.tree.encodings import encode


def yield_to_everybody() -> None:
    """Run only when nothing else wants the processor; Linux then puts our disk accesses last too."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> int:
    """Make one pass over the tree; exit code 1 where a blob was damaged or the disk failed."""
    root, space = sys.argv[1:]
    yield_to_everybody()
    try:
        encoded = encode(Path(root), int(space))
    except OSError as error:
        sys.stderr.write(f"cannot write encodings: {error.filename or root}: {error.strerror}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(encoded))
    sys.stderr.writelines(f"{fault}\n" for fault in encoded.faults)
    return 1 if encoded.faults else 0


if __name__ == "__main__":
    sys.exit(main())
