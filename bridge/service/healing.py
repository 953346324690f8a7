"""Damaged blobs: found by the registry or the scrub, taken out of the tree, and exported again by the next pass."""

import asyncio
import contextlib
import logging
import math
import sys
import time
from pathlib import Path

import msgspec

from bridge.errors import BridgeError, InvalidError, PodmanError
from bridge.oci import Digest
from bridge.podman import process
from bridge.publish.failures import words
from bridge.publish.reconcile import Reconciler
from bridge.service.settings import Settings
from bridge.tree import disk
from bridge.tree.measure import measure
from bridge.tree.paths import TreePaths
from bridge.tree.scrubbing import Slice
from bridge.untrusted_json import decode

log = logging.getLogger(__name__)

SLICE = 300.0
"""Seconds of one run of the scrub: what a stop or a crash loses of it at the most, beside the blob under way."""

_LOOK = 60.0
"""Seconds between two looks whether a scrub is due, at the most."""


class ScrubState(msgspec.Struct, omit_defaults=True):
    """How far the scrub is. Times are in seconds since the epoch, `begun` is None between two; sizes are in bytes.

    `ended` is when the last one ended, or when the tree was first seen. `last` is the name of the blob that was read
    last; `blobs`, `read` and `damaged` count since `begun`, or of the last scrub.
    """

    ended: float
    begun: float | None = None
    last: str = ""
    blobs: int = 0
    read: int = 0
    damaged: int = 0


class Healing:
    """Takes damaged blobs out of the tree, and looks for them. `state` is how far the scrub is."""

    def __init__(self, reconciler: Reconciler, settings: Settings) -> None:
        self.state = ScrubState(time.time())
        self._reconciler = reconciler
        self._settings = settings
        self._paths = reconciler.parts.tree.paths
        self._found: set[Digest] = set()
        self._rung = asyncio.Event()

    @property
    def total(self) -> int:
        """The bytes of all blobs."""
        return measure(self._paths).blobs.size

    def hear(self, digest: str) -> None:
        """Be told of a blob whose bytes are not its own. Cheap, and safe at any time."""
        try:
            self._found.add(Digest.parse(digest))
        except InvalidError:
            return
        self._rung.set()

    async def heal(self) -> None:
        """Take out what was found, for ever. What fails is found again."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            found, self._found = frozenset(self._found), set()
            try:
                await self._reconciler.discard(found)
            except (BridgeError, OSError) as error:
                log.warning("damaged blobs cannot be taken out, tried when found again error=%r", words(error))

    async def scrub(self) -> None:
        """Read all blobs again whenever that is due, slice by slice, for ever."""
        self.state = await asyncio.to_thread(load, self._paths)
        while True:
            await asyncio.sleep(self._wait())
            if self._wait() <= 0:
                await self._scrub()

    def _wait(self) -> float:
        every = self._settings.config.scrub.every
        if not every:
            return _LOOK
        due = 0.0 if self.state.begun is not None else self.state.ended + every - time.time()
        return max(0.0, min(due, _LOOK, every))

    async def _scrub(self) -> None:
        state = self.state
        if state.begun is None:
            state = ScrubState(state.ended, begun=time.time())
            log.info("scrub begins bytes=%d", await asyncio.to_thread(lambda: self.total))
        self.state = state
        done = await self._slice(state)
        if done is None:
            await asyncio.sleep(_LOOK)
            return
        for name in done.damaged:
            log.error("blob is damaged, found by the scrub digest=sha256:%s", name)
            self.hear(f"sha256:{name}")
        state.last, state.blobs, state.read = done.last, state.blobs + done.blobs, state.read + done.read
        state.damaged += len(done.damaged)
        if done.is_last:
            log.info("scrubbed blobs=%d bytes=%d damaged=%d", state.blobs, state.read, state.damaged)
            state.ended, state.begun, state.last = time.time(), None, ""
        await asyncio.to_thread(save, self._paths, state)

    async def _slice(self, state: ScrubState) -> Slice | None:
        limits = str(SLICE), str(int(self._settings.config.scrub.rate))
        command = (sys.executable, "-m", "bridge.tree.scrubber", str(self._paths.root), state.last, *limits)
        try:
            output = await process.run(command, stall=math.inf)
        except PodmanError as error:
            log.warning("the scrub failed, tried again later error=%r", str(error))
            return None
        return msgspec.json.decode(output, type=Slice)


def _file(paths: TreePaths) -> Path:
    return paths.scrub / "state.json"


def load(paths: TreePaths) -> ScrubState:
    """Read how far the scrub was; of a tree that is new, or that was never scrubbed, it begins to count now.

    What a killed service left of its last write is removed.
    """
    for name in set(disk.names(paths.scrub)) - {_file(paths).name}:
        with contextlib.suppress(OSError):
            (paths.scrub / name).unlink()
    try:
        return decode(_file(paths).read_bytes(), "the state of the scrub", ScrubState)
    except (OSError, InvalidError):
        state = ScrubState(time.time())
        save(paths, state)
        return state


def save(paths: TreePaths, state: ScrubState) -> None:
    """Write how far the scrub is. What cannot be remembered is read again."""
    try:
        disk.make_directory(paths.scrub)
        disk.write_atomically(_file(paths), msgspec.json.encode(state), paths.scrub)
    except OSError as error:
        log.debug("the scrub cannot remember how far it is error=%r", str(error))
