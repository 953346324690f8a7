"""A staging directory for a task, gone in every case when its block ends."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bridge.publish import threads
from bridge.tree.publisher import Tree


@contextlib.asynccontextmanager
async def staged(tree: Tree) -> AsyncIterator[Path]:
    """Give a fresh directory on the tree's disk while the block runs."""
    stage = tree.stage()
    directory = stage.__enter__()  # one mkdir, here: a thread's result could be lost to a cancellation
    try:
        yield directory
    finally:
        await threads.run(stage.__exit__, None, None, None)
