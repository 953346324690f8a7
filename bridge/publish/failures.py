"""What could not be published, why, and when it is tried again."""

import logging
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.errors import DeniedError, UnsupportedError
from bridge.oci import Reference
from bridge.plan import Target
from bridge.untrusted_text import one_line

log = logging.getLogger(__name__)

FIRST_RETRY = 1.0
LAST_RETRY = 300.0
"""Seconds until a failed publication is tried again: doubled each time from the first to the last."""

NOT_RETRIED = "not retried until the image changes"

_STAGING = re.compile(r"/[^\s:\"']*?/staging/[^/\s:\"']+(/scratch/[^\s:\"']+|/\S*?oci-put-blob\d+)?")
"""A staging directory, or a temporary file of podman's in it: its name is another in each try, and says nothing."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a target is not published. `retry_at` is in seconds since the epoch, `due` on the monotonic clock.

    What a hook denied has no next try, and `denied_by` is the hook's name; nor has what is `permanent`, until its
    image changes. `repeats` says that the try before failed with the same words.
    """

    target: Target
    message: str
    attempts: int
    retry_at: float | None
    due: float
    denied_by: str = ""
    repeats: bool = False
    permanent: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it has no next try by itself."""
        return self.retry_at is None


class Failures:
    """The failures and denials of now. One that repeats with the same words is logged once.

    `era` counts how often the hooks were to be asked again: a denial of an earlier one does not count.
    """

    def __init__(self) -> None:
        self.era = 0
        self._all: dict[Reference, Failure] = {}

    def __iter__(self) -> Iterator[Failure]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, target: Target, error: Exception) -> Failure:
        """Note that `target` failed, and say when it is tried again: never, where no second try changes anything."""
        if isinstance(error, UnsupportedError):
            return self._give_up(target, error)
        attempts = self.attempts(target) + 1
        delay = retry_delay(attempts)
        due = time.time() + delay, time.monotonic() + delay
        failure = Failure(target, words(error), attempts, *due, repeats=self._repeats(target, words(error)))
        self._all[target.reference] = failure
        level = logging.DEBUG if failure.repeats else logging.WARNING
        log.log(
            level,
            "publication failed, will try again reference=%s image=%s retry_seconds=%.0f error=%r",
            target.reference, target.image.id[:12], delay, failure.message,
        )  # fmt: skip
        return failure

    def _give_up(self, target: Target, error: UnsupportedError) -> Failure:
        message = f"{words(error)}; {NOT_RETRIED}"
        attempts, repeats = self.attempts(target) + 1, self._repeats(target, message)
        failure = Failure(target, message, attempts, None, math.inf, repeats=repeats, permanent=True)
        self._all[target.reference] = failure
        log.log(
            logging.DEBUG if failure.repeats else logging.WARNING,
            "publication failed, not retried until the image changes reference=%s image=%s error=%r",
            target.reference, target.image.id[:12], words(error),
        )  # fmt: skip
        return failure

    def deny(self, target: Target, error: DeniedError) -> Failure:
        """Note that a hook denied `target`: it is not tried again by itself."""
        attempts, repeats = self.attempts(target) + 1, self._repeats(target, words(error))
        failure = Failure(target, words(error), attempts, None, math.inf, error.hook, repeats)
        self._all[target.reference] = failure
        log.warning(
            "publication denied reference=%s image=%s hook=%s reason=%r",
            target.reference, target.image.id[:12], error.hook, failure.message,
        )  # fmt: skip
        return failure

    def attempts(self, target: Target) -> int:
        """Return how often `target` has failed."""
        failure = self._of(target)
        return 0 if failure is None else failure.attempts

    def waits(self, target: Target) -> bool:
        """Say whether `target` failed and its time has not come yet."""
        failure = self._of(target)
        return failure is not None and failure.due > time.monotonic()

    def is_final(self, target: Target) -> bool:
        """Return True if `target` failed and has no next try by itself."""
        failure = self._of(target)
        return failure is not None and failure.is_final

    def forget_denials(self) -> None:
        """Have the hooks asked again."""
        self.era += 1
        self._all = {key: item for key, item in self._all.items() if not item.denied_by}

    @property
    def denied(self) -> int:
        """How many of them are denials."""
        return sum(bool(failure.denied_by) for failure in self)

    @property
    def permanent(self) -> int:
        """How many of them are not retried until their image changes."""
        return sum(failure.permanent for failure in self)

    def _repeats(self, target: Target, message: str) -> bool:
        old = self._of(target)
        return old is not None and old.message == message

    def _of(self, target: Target) -> Failure | None:
        failure = self._all.get(target.reference)
        return failure if failure is not None and failure.target.image.source == target.image.source else None

    def forget(self, reference: Reference) -> None:
        """Drop the failure of a reference that was published, or that is to be tried at once."""
        self._all.pop(reference, None)

    def clear(self) -> None:
        """Have everything tried at once, and the hooks asked again."""
        self.era += 1
        self._all.clear()

    def keep(self, targets: Iterable[Target]) -> None:
        """Drop what is not to be done any more: all but the failures of these targets, with these images."""
        due = {(target.reference, target.image.source) for target in targets}
        self._all = {key: item for key, item in self._all.items() if (key, item.target.image.source) in due}


def retry_delay(attempts: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return min(FIRST_RETRY * 2.0 ** min(attempts - 1, 20), LAST_RETRY)


def words(error: Exception) -> str:
    """Return what an operator should read of an error."""
    if isinstance(error, OSError) and error.errno is not None:
        said = f"{error.strerror}: {error.filename or 'the tree'}"
    else:
        said = _STAGING.sub("staging", str(error))
    said = one_line(said)
    return f"{said}; free some space on the disk of the tree" if "no space left" in said.lower() else said
