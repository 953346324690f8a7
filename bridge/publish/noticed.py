"""When it was noticed that a reference should show something else: the begin of its way into the tree."""

import time
from collections.abc import Iterable

from bridge.oci import Reference
from bridge.plan import Source, Target


class Noticed:
    """Remembers, for what is to be published, the first poke of the pass that found it; on the monotonic clock."""

    def __init__(self) -> None:
        self._poked: float | None = None
        self._begun = 0.0
        self._found: dict[tuple[Reference, Source], float] = {}

    def poke(self) -> None:
        """Take note of a reason to look; only the first before a pass counts."""
        if self._poked is None:
            self._poked = time.monotonic()

    def begin(self) -> None:
        """Begin a pass: what it finds came with the pokes up to now, or, without one, has come by itself."""
        self._begun = time.monotonic() if self._poked is None else self._poked
        self._poked = None

    def find(self, targets: Iterable[Target]) -> None:
        """Take note of all that a pass has found to publish; what is known already keeps its time."""
        keys = [(target.reference, target.image.source) for target in targets]
        self._found = {key: self._found.get(key, self._begun) for key in keys}

    def since(self, reference: Reference, source: Source) -> float | None:
        """Return when it was noticed; None for what no pass found, such as a request."""
        return self._found.get((reference, source))
