"""The log, to standard error: plain lines, JSON lines, or records with fields for systemd's journal.

What a module logs is constant words and `key=value` pairs. The pairs become fields, taken from the
template and its arguments, so that a value may hold anything.
"""

import array
import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from bridge.untrusted_text import NEW_LINES, escaped

Format = Literal["auto", "plain", "json", "journal"]
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Pairs = dict[str, str | int | float | bool | None]
Level = Literal["debug", "info", "warning", "error"]

JOURNAL = Path("/run/systemd/journal/socket")
PARTED = "parted"
"""The attribute of a record that was parted in another process: its words and its pairs."""
_CONVERSION = re.compile(r"(?: ?(\w+)=)?%[-+ #0]*\d*(?:\.\d+)?([diouxXeEfFgGcrsa%])")
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""The levels of syslog, which the journal has too."""
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def start(kind: Format, level: Level, handler: logging.Handler | None = None) -> None:
    """Send the log to `handler`, by default to one of this kind."""
    logging.basicConfig(level=level.upper(), handlers=[handler or _handler(kind)], force=True)


def _handler(kind: Format) -> logging.Handler:
    if kind == "journal" or (kind == "auto" and is_journal()):
        return JournalHandler()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if kind == "json" else _plain())
    return handler


def is_journal() -> bool:
    """Say whether standard error is a stream of the journal, whose socket can be reached.

    JOURNAL_STREAM names its device and inode (systemd.exec(5)): a program that is started by a service
    with another standard error has the variable too.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        status = os.fstat(sys.stderr.fileno())
        named = os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
        return named and JOURNAL.is_socket()
    return False


def _plain() -> logging.Formatter:
    return LineFormatter("%(asctime)s %(levelname)s %(message)s")


class LineFormatter(logging.Formatter):
    """One line a record, whatever its values hold: neither another line nor a command to a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging calls it
        """Return the line."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - as logging calls it
        """Return the lines of a traceback."""
        return escaped(super().formatException(ei), keep=NEW_LINES)


def parted(record: logging.LogRecord) -> tuple[str, Pairs]:
    """Return the words of a record, and its pairs."""
    before: tuple[str, Pairs] | None = record.__dict__.get(PARTED)
    if before is not None:
        return before
    if not record.args or not isinstance(record.args, tuple):
        return record.getMessage(), {}
    values, pairs = iter(record.args), Pairs()

    def take(match: re.Match[str]) -> str:
        key, conversion = match[1], match[2]
        if conversion == "%":
            return match[0]
        value = next(values, None)
        if key is None:
            return (match[0] % (value,)).replace("%", "%%")
        # A float is as exact as the line shows it; anything else that JSON does not know is its own text.
        pairs[key] = float(match[0].rpartition("=")[2] % value) if isinstance(value, float) else _simple(value)
        return ""

    words = _CONVERSION.sub(take, str(record.msg))
    return (words % ()).strip(), pairs


def _simple(value: object) -> str | int | bool | None:
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `msg`, then the pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        words, pairs = parted(record)
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "msg": words, **pairs}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class JournalHandler(logging.Handler):
    """Sends records to the journal by its native protocol; what it does not take goes to standard error.

    MESSAGE is the whole line, so that `journalctl` shows all of it, and a pair `key=value` also is the
    field PODBRIDGE_KEY. <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # or basicConfig gives it one with the level, which is a field here
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._other = logging.StreamHandler()
        self._other.setFormatter(_plain())

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            content = self._content(record)
        except (TypeError, ValueError):
            self.handleError(record)
            return
        try:
            self._send(content)
        except OSError:
            self._other.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _content(self, record: logging.LogRecord) -> bytes:
        fields = {f"PODBRIDGE_{key.upper()}": value for key, value in parted(record)[1].items()}
        fields |= {"PRIORITY": _PRIORITIES.get(record.levelno, 6), "SYSLOG_IDENTIFIER": "podbridge"}
        fields |= {"MESSAGE": self.format(record), "LOGGER": record.name}
        return b"".join(_field(name, str(value)) for name, value in fields.items())

    def _send(self, content: bytes) -> None:
        try:
            self._socket.sendto(content, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(content)

    def _send_file(self, content: bytes) -> None:
        """Hand over what is too large for a datagram in a sealed file, as the protocol has it."""
        descriptor = os.memfd_create("podbridge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([b""], [rights], 0, self._path)


def _field(name: str, value: str) -> bytes:
    """Return one field; a value of several lines has its length before it, in 64 bits, little-endian."""
    content = value.encode(errors="backslashreplace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)
