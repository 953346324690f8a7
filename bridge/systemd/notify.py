"""What systemd is told of the service, one datagram each; without systemd nothing is.

https://www.freedesktop.org/software/systemd/man/252/sd_notify.html
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Self

from bridge.untrusted_text import one_line

log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds for one datagram, where systemd's queue is full."""


class Notifier:
    """Tells systemd; `address` is where it listens, a path or an abstract name, and `watchdog` is in seconds.

    Where nobody listens it is silent: `told` says whether anybody does.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self.told = bool(address)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog

    @classmethod
    def adopt(cls, environment: MutableMapping[str, str]) -> Self:
        """Be what the variables say, and take them out of `environment`: they speak to this process alone."""
        address = environment.pop("NOTIFY_SOCKET", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        microseconds = environment.pop("WATCHDOG_USEC", "")
        meant = microseconds.isdecimal() and pid == str(os.getpid())
        return cls(address, int(microseconds) / 1e6 if meant else None)

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is done."""
        self._send(READY=1, STATUS=status)

    def status(self, words: str) -> None:
        """Say in one line how the service is, for `systemctl status`."""
        self._send(STATUS=words)

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends it."""
        self._send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send(STOPPING=1, STATUS="stopping, pulls under way may finish")

    def extend(self, seconds: float) -> None:
        """Ask for so many seconds from now on before a start counts as failed."""
        self._send(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))

    async def keep_alive(self) -> None:
        """Ping the watchdog for ever, from the event loop, so that a service whose loop stalls is started again."""
        while self._watchdog:
            self._send(WATCHDOG=1)
            await asyncio.sleep(self._watchdog / 2)

    def _send(self, **fields: str | int) -> None:
        if not self.told:
            return
        message = "\n".join(f"{key}={one_line(str(value))}" for key, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("systemd was not told error=%r", error.strerror or str(error))
