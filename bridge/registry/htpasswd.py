"""An htpasswd file: who may log in. bcrypt only, for every other kind in such files can be guessed by the million.

The format is Apache's, `USER:HASH` in each line: https://httpd.apache.org/docs/2.4/programs/htpasswd.html
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.descriptors import is_shortage
from bridge.errors import ConfigError
from bridge.registry.files import Files

log = logging.getLogger(__name__)

_BCRYPT = re.compile(rb"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_KINDS = {
    b"$2": "a bcrypt entry that is cut or mistyped",
    b"$apr1$": "MD5 (apr1), htpasswd's default",
    b"$1$": "MD5 crypt",
    b"{SHA}": "SHA-1",
    b"$5$": "SHA-256 crypt",
    b"$6$": "SHA-512 crypt",
    b"$argon2": "argon2",
}


@dataclass(frozen=True, slots=True)
class Entries:
    """What a file says: each user's bcrypt entry, and in words what it says that is not accepted."""

    users: Mapping[str, bytes] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: bytes) -> "Entries":
        """Read a file's bytes. A line that is not accepted lets nobody in; the others count."""
        users: dict[str, bytes] = {}
        problems = []
        for number, user, entry in _lines(content):
            problem = _problem(user, entry) or (f"user {user!r} stands twice" if user in users else "")
            if problem:
                problems.append(f"line {number}: {problem}")
            else:
                users[user] = entry
        return cls(users, tuple(problems))


def _lines(content: bytes) -> Iterator[tuple[int, str, bytes]]:
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip() and not line.startswith(b"#"):
            user, _, entry = line.strip().partition(b":")
            yield number, user.decode(errors="replace"), entry


def _problem(user: str, entry: bytes) -> str:
    """Say why an entry is not accepted; nothing of the entry itself, nor of a line without a colon, is repeated."""
    if not entry or not user:
        return "expected USER:HASH"
    if _BCRYPT.fullmatch(entry):
        return ""
    kind = next((words for start, words in _KINDS.items() if entry.startswith(start)), "DES crypt or plain text")
    return f"user {user!r} has {kind}; only bcrypt is accepted: `htpasswd -B FILE USER` makes it anew"


class Htpasswd:
    """The file at `path`, read again when it changes. Raises ConfigError where it cannot be used at the start.

    Later, a line that is not accepted costs its own user the way in, and a file that cannot be read
    costs everybody: nobody is let in by what the file no longer says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = Files([path])
        self._entries = self._read()
        if self._entries.problems:
            msg = f"registry.auth.htpasswd: {path}: {'; '.join(self._entries.problems)}"
            raise ConfigError(msg)

    @property
    def users(self) -> Mapping[str, bytes]:
        """Each user's bcrypt entry at this moment; a file written less than half a second ago is not read yet."""
        if self._files.changed():
            self._entries = self._read_again()
        return self._entries.users

    def _read(self) -> Entries:
        try:
            return Entries.parse(self._path.read_bytes())
        except OSError as error:
            msg = f"registry.auth.htpasswd: {self._path}: {error.strerror}"
            raise ConfigError(msg) from error

    def _read_again(self) -> Entries:
        try:
            entries = self._read()
        except ConfigError as error:
            if is_shortage(error.__cause__):
                self._files.forget()  # who may log in stays as it is until the file can be read
                return self._entries
            log.error("nobody can log in until the file is back error=%r", str(error))  # noqa: TRY400
            return Entries()
        for problem in entries.problems:
            log.error("entry of the htpasswd file refused file=%s problem=%r", self._path, problem)
        log.info("htpasswd file read again file=%s users=%d", self._path, len(entries.users))
        return entries
