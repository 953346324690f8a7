"""The hosts that lead to this machine's own registry, as far as the machine itself knows: no name server is asked."""

import contextlib
import socket
from collections.abc import Collection, Iterator
from ipaddress import IPv6Address
from pathlib import Path

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


def own(listen: str) -> frozenset[str]:
    """Return the hosts that lead to a registry that listens on the address `listen`.

    Where it listens on one address only, another registry may listen on the machine's others.
    """
    here = frozenset(_addresses(listen)) if listen in _EVERYWHERE else frozenset({listen})
    named = names(_read(Path("/etc/hosts")), here)
    return here | frozenset(named) | {listen, "localhost", "127.0.0.1", socket.gethostname()}


def _addresses(listen: str) -> Iterator[str]:
    yield "127.0.1.1"  # Debian's /etc/hosts gives the machine's own name this one
    yield from ipv4_addresses(_read(Path("/proc/net/fib_trie")))
    if listen == "::":
        yield "::1"
        yield from ipv6_addresses(_read(Path("/proc/net/if_inet6")))


def ipv4_addresses(trie: str) -> Iterator[str]:
    """Yield the machine's addresses out of `/proc/net/fib_trie`: each is followed by a line that calls it local."""
    last = ""
    for words in map(str.split, trie.splitlines()):
        if words[0] == "|--":
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            yield last


def ipv6_addresses(interfaces: str) -> Iterator[str]:
    """Yield the machine's addresses out of `/proc/net/if_inet6`, which begins each line with one in 32 digits."""
    for line in interfaces.splitlines():
        yield str(IPv6Address(bytes.fromhex(line.split()[0])))


def names(table: str, addresses: Collection[str]) -> Iterator[str]:
    """Yield the names that a table such as `/etc/hosts` gives the addresses."""
    for line in table.splitlines():
        address, *found = line.partition("#")[0].split() or [""]
        if address in addresses:
            yield from found


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
