"""Who may have one more of what is limited: places, shared among the users of a socket."""

import contextlib
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator

from bridge.errors import BusyError

_CREDENTIALS = struct.Struct("3i")


def user_of(connection: socket.socket) -> int | None:
    """Return the uid of the process that has connected to a unix socket (SO_PEERCRED, unix(7)); None over TCP."""
    if connection.family != socket.AF_UNIX:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


class Places:
    """`total` places of some kind, of which a quarter is for root and for the user whom the service runs as.

    Any other user may have as many as are free: one alone gets half of them, the next one half of the rest, so each
    user who comes finds some. All clients over TCP are one user, without a reserve.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total = total
        self._reserve = total // 4
        self._what = what
        self._taken: Counter[int | None] = Counter()

    def has_room(self, user: int | None) -> bool:
        """Return True if this user may have one more."""
        free = self.total - self._taken.total()
        if user is None or user in (0, os.geteuid()):
            return free > 0
        return self._taken[user] < free - self._reserve

    @contextlib.contextmanager
    def taken(self, user: int | None) -> Iterator[None]:
        """Have one place while the block runs; raise BusyError if there is none for this user."""
        if not self.has_room(user):
            msg = f"too many {self._what} are open ({self._taken[user]} of yours); end some, or try again soon"
            raise BusyError(msg)
        self._taken[user] += 1
        try:
            yield
        finally:
            self._taken[user] -= 1
            self._taken += Counter()  # users without any are not remembered
