"""The tree's writing side for tasks: off the event loop, one write at a time."""

import asyncio
import logging
import time
from collections.abc import Callable

from bridge.conditions import Conditions, Kind
from bridge.errors import BridgeError
from bridge.oci import Reference
from bridge.plan import Publication, Target
from bridge.publish import threads
from bridge.publish.export import Exported
from bridge.publish.failures import words
from bridge.tree.publisher import Swept, Tree

log = logging.getLogger(__name__)


class TreeWriter:
    """Writes into one tree. Hold `turn` over what is decided and written as one.

    `published` is set at every publication, and cleared by whoever waits for it.
    """

    def __init__(self, tree: Tree, conditions: Conditions) -> None:
        self.tree = tree
        self.turn = asyncio.Lock()
        self.published = asyncio.Event()
        self._conditions = conditions

    def known(self, target: Target) -> Exported | None:
        """Return what the tree holds of the target's image already; None where it has to be exported."""
        found = self.tree.find(target.image.source)
        return None if found is None else Exported(found.descriptor, found.fidelity, found.size)

    async def show(self, target: Target, exported: Exported) -> None:
        """Publish. Raises TreeError or OSError."""
        publication = Publication(
            reference=target.reference,
            descriptor=exported.descriptor,
            source=target.image.source,
            fidelity=exported.fidelity,
            name=target.name,
            size=exported.size,
            published=time.time(),
            requested=target.requested,
            origins=target.image.digests,
            keep=target.keep,
        )
        await threads.run(self.tree.publish, publication)
        self.published.set()
        self._conditions.confirm(Kind.TREE_WRITABLE)
        log.info(
            "published reference=%s digest=%s fidelity=%s image=%s bytes=%d",
            target.reference, exported.descriptor.digest, exported.fidelity, target.image.id[:12], exported.size,
        )  # fmt: skip

    async def withdraw(self, reference: Reference, *, hold: bool = False) -> None:
        """Withdraw. Raises TreeError or OSError."""
        await threads.run(self.tree.withdraw, reference, hold=hold)
        log.info("withdrawn reference=%s held=%s", reference, hold)

    async def sweep(self, grace: float, *, dry_run: bool = False) -> Swept:
        """Remove what has been superseded for longer than `grace` seconds. Raises TreeError or OSError."""
        swept = await threads.run(self.tree.sweep, grace, dry_run=dry_run)
        if not dry_run and (swept.manifests or swept.blobs):
            log.info(
                "swept manifests=%d blobs=%d bytes=%d dry_run=%s", swept.manifests, swept.blobs, swept.freed, dry_run
            )
        return swept

    async def quietly(self, write: Callable[[Reference], None], reference: Reference, done: str) -> bool:
        """Write, and log `done`; tell a failure as a condition and return False: the next pass tries again."""
        try:
            await threads.run(write, reference)
        except (BridgeError, OSError) as error:
            self._conditions.deny(Kind.TREE_WRITABLE, "WriteFailed", f"{reference}: {words(error)}")
            return False
        self._conditions.confirm(Kind.TREE_WRITABLE)
        log.info("%s reference=%s", done, reference)
        return True
