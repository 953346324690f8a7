"""What happens to references, told as it happens to whoever listens: hooks, metrics, event streams, the encoder."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bridge.fence import Fence
from bridge.oci import Reference
from bridge.plan import Image, Publication


class Action(StrEnum):
    """What happened."""

    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"
    DENIED = "denied"


class Trigger(StrEnum):
    """Why a pass looks at the store."""

    EVENT = "event"  # podman told of a change
    DOORBELL = "doorbell"  # its list of images was replaced
    RESYNC = "resync"  # it was time to, or podman was away
    RETRY = "retry"  # the time of a failed publication has come
    REQUEST = "request"  # somebody asked for it


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to a reference.

    `publication` is what it shows now, and of a withdrawal what it showed last; `previous` is what it
    showed before, None where that was nothing. `image` is the one that was published, or could not be.
    `message` says why it failed or was denied, by `hook`, and `attempts` how often it has been tried so far.
    """

    action: Action
    reference: Reference
    publication: Publication | None = None
    previous: Publication | None = None
    image: Image | None = None
    seconds: float = 0
    """From the start of its export to its publication; 0 where nothing had to be exported."""
    read: int = 0
    """Bytes of the layers that podman had to read."""
    message: str = ""
    attempts: int = 0
    repeats: bool = False
    """Whether the same image failed before with the same words."""
    hook: str = ""
    permanent: bool = False
    """Whether it is not tried again until its image changes."""
    trigger: Trigger = Trigger.RESYNC


Listener = Callable[[Change], None]


class Changes:
    """Tells each change to every listener, in order. A listener returns at once; one that raises stops no other."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._fence = Fence()

    def tell(self, change: Change) -> None:
        """Call every listener."""
        for listener in tuple(self._listeners):
            with self._fence.within(f"a listener to what is {change.action}"):
                listener(change)

    @contextlib.contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Have `listener` called while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)
