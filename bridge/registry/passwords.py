"""Checking passwords: bcrypt in threads of its own, once for each password, however many requests carry it."""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from bridge.registry.errors import Problem, RegistryError
from bridge.registry.htpasswd import Htpasswd

_REMEMBERED = 1024
"""Passwords whose check has succeeded that are remembered, by a keyed digest."""

_WAITING = 64
"""Checks that may be under way or wait for a thread; beyond that, clients are told to come back."""

_LONGEST = 72
"""Bytes of a password that bcrypt regards; htpasswd made its entry from no more."""

_NOBODY = b"$2b$10$" + b"." * 53
"""An entry that no password fits."""


class Passwords:
    """Checks passwords against an htpasswd file."""

    def __init__(self, file: Htpasswd, threads: ThreadPoolExecutor) -> None:
        self._file = file
        self._threads = threads
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}

    async def fits(self, user: str, password: bytes) -> bool:
        """Say whether this is the user's password, as of the file at this moment. It takes as long for unknown users.

        Raises RegistryError where too many checks wait already.
        """
        users = self._file.users
        entry = users.get(user)
        digest = self._digest(user, entry or b"", password)
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        right = await self._check(digest, entry or max(users.values(), key=_cost, default=_NOBODY), password)
        if entry is None or not right:
            return False
        self._right[digest] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _digest(self, user: str, entry: bytes, password: bytes) -> bytes:
        """Name a password without keeping it. The entry is part: what the file no longer says is not remembered."""
        parts = (user.encode(), entry, password)
        text = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    async def _check(self, digest: bytes, entry: bytes, password: bytes) -> bool:
        """Run bcrypt; requests that carry the same password wait for the same run."""
        run = self._running.get(digest)
        if run is None:
            if len(self._running) >= _WAITING:
                raise RegistryError(Problem.TOO_MANY_LOGINS, None, {"Retry-After": "1"})
            run = asyncio.get_running_loop().run_in_executor(self._threads, _fits, password, entry)
            self._running[digest] = run
            run.add_done_callback(lambda _: self._running.pop(digest, None))
        return await asyncio.shield(run)


def _cost(entry: bytes) -> bytes:
    return entry[4:6]


def _fits(password: bytes, entry: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_LONGEST], entry)
    except ValueError:  # a NUL, which no entry was made from
        return False


@contextlib.contextmanager
def checking(file: Htpasswd) -> Iterator[Passwords]:
    """Check passwords while the block runs, with half of the cores at most: the others send blobs."""
    threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), "bcrypt")
    try:
        yield Passwords(file, threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
