"""Checking passwords: bcrypt in threads of its own, once for each password, in an order that is fair to every address.

docs/decisions/0031-log-ins.md says why it is as it is.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import bcrypt

from bridge.registry.errors import Problem, RegistryError
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.queueing import FairQueue, network

log = logging.getLogger(__name__)

DELAY = 1.0
"""Seconds until a wrong password is answered."""

_DELAYED = 16
"""Answers to one user's wrong passwords that one address may wait for, in all workers together."""

_ALL_DELAYED = 1024
"""Answers that are delayed at one time in this process; a further one lets the oldest go."""

_REMEMBERED = 1024
"""Passwords whose check has succeeded that are remembered, by a keyed digest."""

_LONGEST = 72
"""Bytes of a password that bcrypt regards; htpasswd made its entry from no more."""

_LONGEST_USER = 255
"""Characters of a user's name, as in htpasswd; a longer one belongs to no user."""

_LOGGED = 64
"""Characters of a user's name that are logged."""

_USUAL = 10
"""The cost of a check where the file has no entry."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who wants to be let in with which password, and the address of the client."""

    peer: str
    user: str
    password: bytes

    @property
    def shares(self) -> tuple[str, str]:
        """The network and the user on whose account it waits."""
        return network(self.peer), self.user[: _LONGEST_USER + 1]


@dataclass(frozen=True, slots=True)
class _Check:
    """A run of bcrypt that waits for its turn: the digest of what it checks, and in `right` its outcome."""

    digest: bytes
    password: bytes
    entries: tuple[bytes, ...]
    right: asyncio.Future[bool]


class Passwords:
    """Checks passwords against an htpasswd file, in at most as many threads as there are; one of so many workers."""

    def __init__(self, file: Htpasswd, threads: ThreadPoolExecutor, count: int, workers: int) -> None:
        self._file = file
        self._threads = threads
        self._free = count
        """Threads that run no check. While it is above 0 nothing waits."""
        self._waiting: FairQueue[_Check] = FairQueue()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[tuple[str, bytes], asyncio.Future[bool]] = {}
        self._delays = _Delays(max(2, _DELAYED // workers))

    async def fits(self, attempt: Attempt) -> bool:
        """Return True if this is the user's password, as of the file at this moment; log a wrong one, and answer late.

        A check takes as long for an unknown user, and for a user with a cheap entry, as for any other.
        Raises RegistryError where too many checks or answers of that address wait already.
        """
        users = self._file.users
        entry = users.get(attempt.user)
        password = attempt.password[:_LONGEST]
        digest = self._digest(attempt.user, entry or b"", password)
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        self._delays.admit(attempt)
        # No entry was made from a NUL: htpasswd reads a password up to there.
        right = b"\0" not in password and await self._check(attempt, digest, entries(entry, users))
        if entry is None or not right:
            await self._delays.refuse(attempt)
            return False
        self._remember(digest)
        return True

    async def refuse(self, peer: str) -> None:
        """Log what is no user with a password, and answer late. Raises as `fits` does."""
        attempt = Attempt(peer, "", b"")
        self._delays.admit(attempt)
        await self._delays.refuse(attempt)

    def _remember(self, digest: bytes) -> None:
        self._right[digest] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)

    def _digest(self, user: str, entry: bytes, password: bytes) -> bytes:
        """Name a password without keeping it. The entry is part: what the file no longer says is not remembered."""
        parts = (user.encode(), entry, password)
        text = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    async def _check(self, attempt: Attempt, digest: bytes, wanted: tuple[bytes, ...]) -> bool:
        """Run bcrypt in turn; requests of one address that carry the same password wait for the same run."""
        address, user = attempt.shares
        right = self._running.get((address, digest))
        if right is None:
            right = asyncio.get_running_loop().create_future()
            self._running[address, digest] = right
            right.add_done_callback(lambda _: self._running.pop((address, digest)))
            dropped = self._waiting.add(address, user, _Check(digest, attempt.password[:_LONGEST], wanted, right))
            if dropped is not None:
                dropped.right.cancel()
            self._begin()
        # The run goes on where a client leaves. `wait`, for a cancelled run is not a cancelled request.
        await asyncio.wait([right])
        if right.cancelled():
            raise _too_many()
        return right.result()

    def _begin(self) -> None:
        """Give the free threads to those whose turn it is."""
        while self._free and len(self._waiting):
            check = self._waiting.take()
            if check.digest in self._right:  # another address was let in with it in the meantime
                check.right.set_result(True)
                continue
            self._free -= 1
            run = asyncio.get_running_loop().run_in_executor(self._threads, fits, check.password, check.entries)
            run.add_done_callback(lambda run, right=check.right: self._ended(run, right))  # type: ignore[misc]

    def _ended(self, run: asyncio.Future[bool], right: asyncio.Future[bool]) -> None:
        self._free += 1
        if run.cancelled():
            right.cancel()
        elif error := run.exception():
            right.set_exception(error)
        else:
            right.set_result(run.result())
        self._begin()


class _Delays:
    """Answers to wrong passwords that are held back, at most so many for one user at one address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[tuple[str, str]] = Counter()
        self._held: OrderedDict[asyncio.Event, None] = OrderedDict()

    def admit(self, attempt: Attempt) -> None:
        """Raise RegistryError where the address waits for as many answers about this user as it may."""
        if self._counts[attempt.shares] >= self._most:
            raise _too_many()

    async def refuse(self, attempt: Attempt) -> None:
        """Log the refusal, and return when the client may hear of it."""
        log.warning("log-in refused peer=%s user=%r", attempt.peer, attempt.user[:_LOGGED])
        gone = asyncio.Event()
        self._held[gone] = None
        self._counts[attempt.shares] += 1
        if len(self._held) > _ALL_DELAYED:
            self._held.popitem(last=False)[0].set()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), DELAY)
        finally:
            self._held.pop(gone, None)
            self._counts[attempt.shares] -= 1
            if not self._counts[attempt.shares]:
                del self._counts[attempt.shares]


def _too_many() -> RegistryError:
    return RegistryError(Problem.TOO_MANY_LOGINS, None, {"Retry-After": "1"})


def entries(entry: bytes | None, users: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Return what bcrypt has to work through: the user's entry first, then what makes the work that of the costliest.

    A cost of n is 2**n rounds. An entry of cost n, then one of each cost from n up to the greatest, without it,
    make 2**greatest rounds exactly.
    """
    greatest = max(map(_cost, users.values()), default=_USUAL)
    if entry is None:
        return (_dummy(greatest),)
    return (entry, *map(_dummy, range(_cost(entry), greatest)))


def _cost(entry: bytes) -> int:
    return int(entry[4:6])


def _dummy(cost: int) -> bytes:
    """Return an entry of this cost that no password fits."""
    return b"$2b$%02d$" % cost + b"." * 53


def fits(password: bytes, wanted: tuple[bytes, ...]) -> bool:
    """Return True if the password is that of the first entry; all of them are worked through."""
    right, *_ = [bcrypt.checkpw(password, entry) for entry in wanted]
    return right


@contextlib.contextmanager
def checking(file: Htpasswd, workers: int) -> Iterator[Passwords]:
    """Check passwords while the block runs. All workers share half of the cores; each has a thread at least."""
    count = max(1, (os.cpu_count() or 1) // 2 // workers)
    threads = ThreadPoolExecutor(count, "bcrypt")
    try:
        yield Passwords(file, threads, count, workers)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
