"""The hooks of one service: those of a stage are called in order, and what is refused is logged once."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from bridge.descriptors import may_pass
from bridge.errors import DeniedError, HookError, UnforeseenError
from bridge.fence import Fence
from bridge.hooks.document import Document
from bridge.hooks.finding import GATES, Hook, Stage, State, find
from bridge.hooks.running import Outcome, run

log = logging.getLogger(__name__)

GATE_LIMIT = 10.0
"""Seconds that one hook of a gate may take."""
LIMIT = 60.0
"""The same of any other."""

_ALLOW, _DENY, _LATER = 0, 1, 75
"""Exit codes of a gate: 75 is EX_TEMPFAIL of sysexits.h."""


class Hooks:
    """The hooks below some directories, the first of which wins."""

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._directories = tuple(directories)
        self._told: set[tuple[Path, str]] = set()
        self._fence = Fence()

    def of(self, stage: Stage) -> tuple[Hook, ...]:
        """Find what a stage runs now, in order."""
        found = tuple(find(stage, self._directories))
        for hook in found:
            if hook.state is State.REFUSED and (hook.path, hook.reason) not in self._told:
                self._told.add((hook.path, hook.reason))
                log.error("hook refused, it is not run path=%s reason=%r", hook.path, hook.reason)
        return tuple(hook for hook in found if hook.state is State.ACTIVE)

    def look(self) -> None:
        """Have the log name what is refused of all stages now, or that they cannot be read."""
        for stage in Stage:
            with self._fence.within(f"a look at the hooks of {stage}"):
                self.of(stage)

    def readable(self, stage: Stage) -> tuple[Hook, ...]:
        """Find what a stage runs now, in order; raise HookError, and not OSError, if that cannot be read."""
        try:
            return self.of(stage)
        except OSError as error:
            msg = f"hooks of {stage} cannot be read now: {error.strerror}: {error.filename}"
            raise HookError(msg) from error

    def gates(self) -> tuple[Hook, ...]:
        """Find the gates; two answers differ where a hook came or went, or it or its settings were changed.

        Raises HookError if they cannot be read.
        """
        return tuple(hook for stage in GATES for hook in self.readable(stage))

    async def ask(self, document: Document) -> None:
        """Ask the gates of the document's stage, one after the other. Return where all allow it.

        Raises DeniedError for the first that does not, HookError for the first that asks for a later try, or that
        cannot be read or started now.
        """
        for hook in self.readable(Stage(document.stage)):
            try:
                with self._fence.around(f"hook {hook.name}"):
                    outcome = await run(hook, document, GATE_LIMIT)
            except OSError as error:
                if may_pass(error):  # it says nothing of the hook
                    msg = f"hook {hook.name} cannot be started now: {error.strerror}"
                    raise HookError(msg) from error
                raise DeniedError(hook.name, f"it cannot be started: {error.strerror}") from error
            if outcome is not None and outcome.code != _ALLOW:
                raise _refusal(hook, outcome)

    async def tell(self, document: Document) -> None:
        """Call the hooks of the document's stage, one after the other. What fails is logged and stops no other."""
        for hook in self.of(Stage(document.stage)):
            begun = time.monotonic()
            how = await self._call(hook, document)
            words = (hook.name, document.stage, document.reference, time.monotonic() - begun)
            if how:
                log.warning("hook failed hook=%s stage=%s reference=%s seconds=%.2f error=%r", *words, how)
            elif how is not None:
                log.info("hook ran hook=%s stage=%s reference=%s seconds=%.2f", *words)

    async def _call(self, hook: Hook, document: Document) -> str | None:
        """Run a hook, and return what was wrong: nothing where it ended well, None where it is not there any more."""
        try:
            with self._fence.around(f"hook {hook.name}"):
                outcome = await run(hook, document, LIMIT)
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        except UnforeseenError as error:
            return str(error)
        if outcome is None or outcome.code == 0:
            return None if outcome is None else ""
        return _how(outcome, LIMIT) + (f": {outcome.last_line}" if outcome.last_line else "")


def _refusal(hook: Hook, outcome: Outcome) -> HookError:
    said = outcome.first_line
    if outcome.code == _DENY:
        return DeniedError(hook.name, said or "it gave no reason")
    if outcome.code == _LATER:
        return HookError(f"hook {hook.name} asks for a later try: {said or 'it gave no reason'}")
    return DeniedError(hook.name, _how(outcome, GATE_LIMIT) + (f": {said}" if said else ""))


def _how(outcome: Outcome, limit: float) -> str:
    if outcome.code is None:
        return f"it did not end within {limit:g} s and was killed"
    return f"a signal ended it: {-outcome.code}" if outcome.code < 0 else f"exit code {outcome.code}"
