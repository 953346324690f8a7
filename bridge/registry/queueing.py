"""A queue that addresses share fairly, and in it the users of one address. Pure.

Every address that waits gets one turn, then the next one: an address with many waiting checks delays the first check of
another by one check for each address that waits.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

MOST = 256
"""Checks that may wait in all."""

MOST_OF_ADDRESS = 64
"""Checks that may wait of one address."""

_NETWORK = 64
"""Bits of an IPv6 address that name a network, which is what one client is given."""

Item = TypeVar("Item")
_Users = OrderedDict[str, deque[Item]]


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """Return what shares one turn: an IPv4 address, the /64 of an IPv6 address; anything else is its own."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    prefix = int(parsed) >> (128 - _NETWORK) << (128 - _NETWORK)
    return f"{IPv6Address(prefix)}/{_NETWORK}"


@dataclass(slots=True)
class FairQueue(Generic[Item]):
    """What waits, by address and user; the first of each is the next to have a turn. No address or user is empty."""

    _addresses: OrderedDict[str, _Users[Item]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(map(_size, self._addresses.values()))

    def add(self, address: str, user: str, item: Item) -> Item | None:
        """Put an item at the end of its user's line. Where that is one too many, return the item that is dropped.

        It is the last one of the longest line of the address that has most; of lines that are equally long the new one.
        """
        users = self._addresses.setdefault(address, OrderedDict())
        users.setdefault(user, deque()).append(item)
        if _size(users) > MOST_OF_ADDRESS:
            return self._drop(address, user)
        if len(self) > MOST:
            fullest = max(self._addresses, key=lambda name: (_size(self._addresses[name]), name == address))
            return self._drop(fullest, user)
        return None

    def take(self) -> Item:
        """Remove and return the item whose turn it is. Raises LookupError where nothing waits."""
        address = next(iter(self._addresses), None)
        if address is None:
            raise LookupError
        users = self._addresses[address]
        user = next(iter(users))
        item = users[user].popleft()
        self._addresses.move_to_end(address)
        users.move_to_end(user)
        self._tidy(address, user)
        return item

    def _drop(self, address: str, newcomer: str) -> Item:
        users = self._addresses[address]
        user = max(users, key=lambda name: (len(users[name]), name == newcomer))
        item = users[user].pop()
        self._tidy(address, user)
        return item

    def _tidy(self, address: str, user: str) -> None:
        users = self._addresses[address]
        if not users[user]:
            del users[user]
        if not users:
            del self._addresses[address]


def _size(users: _Users[Item]) -> int:
    return sum(map(len, users.values()))
