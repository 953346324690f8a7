"""Blocking work off the event loop, never left behind."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Words = ParamSpec("_Words")
_Result = TypeVar("_Result")


async def run(function: Callable[_Words, _Result], *args: _Words.args, **kwargs: _Words.kwargs) -> _Result:
    """Run `function` in a thread, and return or raise what it does.

    A caller that is cancelled still waits for its end: a thread cannot be stopped, and one that goes on
    writing after the tree's lock was given back would write beside the next publisher.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # whoever waited for it does not any more
        raise
