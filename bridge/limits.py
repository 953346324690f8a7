"""What the clients of one socket may cost: its limits, and the count of what they hold."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

_READ = 64 * KIB
"""Bytes of the largest read. So many a connection may hold behind a request, before it is read no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one listening socket, in one process. Bytes and seconds."""

    connections: int
    """Connections at a time, each from the moment that it is accepted: a TLS handshake is one too. Each takes at
    least one descriptor and some kilobytes, so this also bounds what clients without a request cost."""

    head: int = 32 * KIB
    """Bytes of the longest head: the request line and all fields together. A bound on each field alone would
    allow their number times as much."""

    fields: int = 100
    """Header fields in one request. Each costs some hundred bytes of objects, however short it is."""

    held: int = 16 * MIB
    """Bytes of all connections together that were read and cannot be acted upon yet: heads that are not complete,
    and requests behind one that is under way. A head that arrives in one piece never counts, so
    clients that send such heads are served while others use this up."""

    head_seconds: float = 20.0
    """Seconds from the first byte of a head until it is complete. A client sends a head in one or two packets; a few
    lost ones are sent again within this time."""

    idle_seconds: float = 120.0
    """Seconds that a connection may wait for its next request. Longer than clients and proxies keep theirs open,
    so that it is they who close first, and no request meets a connection that is closing."""

    handshake_seconds: float = 10.0
    """Seconds that a TLS handshake may take: two round trips, and the client's arithmetic."""


class Held:
    """Counts the bytes that the connections of one socket hold, and says when they are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0
        self.buffer = memoryview(bytearray(_READ))
        """Into which every connection reads: whoever was given bytes takes them out at once."""

    def change(self, difference: int) -> None:
        """Count a change of what one connection holds."""
        self.bytes += difference

    @property
    def is_full(self) -> bool:
        """Return True if more is held than there may be: the connection that holds more now has to go."""
        return self.bytes > self._limit
