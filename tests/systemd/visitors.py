"""Clients inside a machine's network: threads of this process that have entered it."""

import ctypes
import http.client
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_NEWNET = 0x40000000
_SETNS = ctypes.CDLL(None, use_errno=True).setns


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Visitors:
    """A few clients that are on the machine of process `pid`."""

    def __init__(self, pid: int) -> None:
        self._pool = ThreadPoolExecutor(4, initializer=_enter, initargs=(pid,))

    def get(self, path: str, address: str = "127.0.0.1:5000", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask once, on a connection of its own; raise OSError or HTTPException where nobody answers whole."""
        return self.begin(path, address, headers).result()

    def begin(
        self, path: str, address: str = "127.0.0.1:5000", headers: Mapping[str, str] | None = None
    ) -> Future[Answer]:
        """Ask, and do not wait for the answer."""
        return self._pool.submit(_get, path, address, headers or {})

    def leave(self) -> None:
        """Wait for what was asked, and go home."""
        self._pool.shutdown()


def _enter(pid: int) -> None:
    """Move this thread, and the sockets that it makes, into the network of a process."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as network:
        if _SETNS(network.fileno(), _NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _get(path: str, address: str, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def outcome(asked: Future[Answer]) -> str:
    """Wait for an answer, and say its status, or why there was none."""
    try:
        return str(asked.result().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
