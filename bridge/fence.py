"""The fence around one thing: what no code foresaw is the failure of that thing, and of nothing else.

The rule. Work on one image, one call of a hook, one request, one pass of a background task, one listener's look at one
change: each is done inside a fence. Inside, every error that we foresaw is one of ours (BridgeError) or the kernel's
(OSError), and has its handler. Anything else that is an `Exception` is a fault of podbridge itself, met with input
that we did not think of. The fence turns it into an UnforeseenError, which those handlers already take; its
traceback is in the log once, not at each retry. MemoryError and RecursionError belong to it: the thing was too large,
and what it held is free again when it has failed. What is no `Exception` passes: CancelledError, KeyboardInterrupt and
SystemExit end a task or the program on purpose.
"""

import contextlib
import logging
import traceback
from collections import OrderedDict
from collections.abc import Iterator

from bridge.errors import BridgeError, UnforeseenError

log = logging.getLogger(__name__)

_TOLD = 1000
"""Failures that are remembered as told: of the oldest the traceback would be told once more."""


class Fence:
    """Fences of one kind of thing. It remembers of the last `remembered` failures that the log has the traceback."""

    def __init__(self, remembered: int = _TOLD) -> None:
        self._remembered = remembered
        self._told: OrderedDict[tuple[object, ...], None] = OrderedDict()

    @contextlib.contextmanager
    def around(self, thing: str) -> Iterator[None]:
        """Let the block raise BridgeError or OSError only: anything unforeseen becomes an UnforeseenError.

        `thing` names in the log what fails, such as `image 0123456789ab`.
        """
        try:
            yield
        except (BridgeError, OSError):
            raise
        except ExceptionGroup as group:
            if group.split((BridgeError, OSError))[1] is None:
                raise  # foreseen, all of it
            raise self.failure(thing, group) from group
        except Exception as error:
            raise self.failure(thing, error) from error

    @contextlib.contextmanager
    def within(self, thing: str) -> Iterator[None]:
        """Let the block raise nothing: whatever fails in it is in the log, and the caller goes on."""
        try:
            with self.around(thing):
                yield
        except UnforeseenError:
            return  # told with its traceback
        except (BridgeError, OSError, ExceptionGroup) as error:
            log.warning("failed thing=%r error=%r", thing, str(error))

    @contextlib.contextmanager
    def apart(self, thing: str, failures: list[BridgeError | OSError]) -> Iterator[None]:
        """Let the block raise nothing: what fails in it is added to `failures`, and the caller goes on."""
        try:
            with self.around(thing):
                yield
        except (BridgeError, OSError) as error:
            failures.append(error)

    def failure(self, thing: str, error: BaseException) -> UnforeseenError:
        """Return an unforeseen exception as an error of ours; the first of its kind leaves a traceback in the log."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        found = UnforeseenError(error)
        last = next(reversed(traceback.extract_tb(error.__traceback__)), None)
        key = thing, type(error), None if last is None else (last.filename, last.lineno)
        if key not in self._told:
            log.error("failed unexpectedly, please report it thing=%r error=%r", thing, found.what, exc_info=error)
        self._told[key] = None
        self._told.move_to_end(key)
        while len(self._told) > self._remembered:
            self._told.popitem(last=False)
        return found
