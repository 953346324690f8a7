"""Remembering what was made of texts that clients choose: of short ones only, so that a full memory is a small one."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

LONGEST = 1024
"""Characters of all texts that name one remembered result. Clients of registries send up to 700: docker's `Accept`."""

_Result = TypeVar("_Result")


def remembered(size: int) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Have a function of texts remember its last `size` results, but none for texts that are long together.

    A header or a target may have as many bytes as a head, and a client can send another one each time.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        memory = lru_cache(maxsize=size)(function)

        @wraps(function)
        def call(*texts: str) -> _Result:
            return memory(*texts) if is_short(*texts) else function(*texts)

        return call

    return decorate


def is_short(*texts: str) -> bool:
    """Return True if the texts together are short enough to name something that is remembered."""
    return sum(map(len, texts)) <= LONGEST
