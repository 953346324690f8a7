"""Sockets that systemd listens on for us: adopted by the names that their units give them.

https://www.freedesktop.org/software/systemd/man/252/sd_listen_fds.html
"""

import os
import socket
from collections.abc import Iterable, MutableMapping
from typing import Self

from bridge.errors import ListenError

_FIRST = 3
"""The first descriptor that is handed over."""

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

_KINDS = {
    "registry": (frozenset({socket.AF_INET, socket.AF_INET6}), "a TCP address"),
    "control": (frozenset({socket.AF_UNIX}), "a path"),
    "api": (frozenset({socket.AF_UNIX}), "a path"),
}
"""What each name may listen on: the families, and how a unit file says so."""


class Sockets:
    """Listening sockets by name; whoever serves one takes it, and what nobody takes is an error."""

    def __init__(self, sockets: Iterable[tuple[str, socket.socket]] = ()) -> None:
        self._sockets: dict[str, socket.socket] = {}
        for name, one in sockets:
            _require_fit(name, one)
            if name in self._sockets:
                msg = f"systemd passed two sockets named {name!r}: give its .socket unit one ListenStream="
                raise ListenError(msg)
            self._sockets[name] = one

    @classmethod
    def adopt(cls, environment: MutableMapping[str, str]) -> Self:
        """Take over what systemd passed to this process, and take the variables out of `environment`.

        No program that is started later inherits the sockets or believes that they are its own. Raises
        ListenError, which names it, for a socket that podbridge has no use for.
        """
        pid, count, names = (environment.pop(variable, "") for variable in _VARIABLES)
        if pid != str(os.getpid()) or not count.isdecimal():
            return cls()
        told = names.split(":") if names else []
        found = []
        for number in range(int(count)):
            descriptor = _FIRST + number
            name = told[number] if number < len(told) else "unknown"
            found.append((name, _opened(name, descriptor)))
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self._sockets

    def take(self, name: str) -> socket.socket | None:
        """Return the socket of that name, which is the caller's from now on; None where systemd passed none."""
        return self._sockets.pop(name, None)

    def require_taken(self) -> None:
        """Raise ListenError, which names them, where there are sockets that nobody took."""
        if self._sockets:
            names = ", ".join(sorted(self._sockets))
            msg = f"systemd passed a socket that nobody serves here: {names}; stop and disable its .socket unit"
            raise ListenError(msg)


def _opened(name: str, descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        return socket.socket(fileno=descriptor)
    except OSError as error:
        msg = f"systemd passed {name!r}, which is no socket: {error.strerror}"
        raise ListenError(msg) from error


def _require_fit(name: str, one: socket.socket) -> None:
    if name not in _KINDS:
        msg = f"systemd passed a socket named {name!r}: set FileDescriptorName= to one of {', '.join(_KINDS)}"
        raise ListenError(msg)
    families, words = _KINDS[name]
    listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if one.family not in families or not listens:
        msg = f"systemd passed {name!r}, which does not fit: its unit needs ListenStream= with {words}, and Accept=no"
        raise ListenError(msg)
