"""One campaign: a property is tried with one seed after the other, until its share of the time is over.

PODBRIDGE_FUZZ_SECONDS is the time for all campaigns together; without it each tries one seed. PODBRIDGE_FUZZ_SEED is
the first seed; a failure names the one that found it, which finds it again.
"""

import os
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

SECONDS = "PODBRIDGE_FUZZ_SECONDS"
SEED = "PODBRIDGE_FUZZ_SEED"
CAMPAIGNS = 13
"""How many campaigns share the time."""

_Example = TypeVar("_Example")


def run(strategy: SearchStrategy[_Example], check: Callable[[_Example], None], *, examples: int = 60) -> None:
    """Try `check` with `examples` of each seed; fail with the smallest example that it fails for."""
    budget = float(os.environ.get(SECONDS, "0")) / CAMPAIGNS
    begun, seed = time.monotonic(), int(os.environ.get(SEED, "1"))
    while True:
        _try(strategy, check, seed, examples)
        seed += 1
        if time.monotonic() - begun >= budget:
            return


def _try(strategy: SearchStrategy[_Example], check: Callable[[_Example], None], seed: int, examples: int) -> None:
    phases = (Phase.generate, Phase.shrink)
    kept = settings(
        max_examples=examples, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck)
    )

    def tried(example: _Example) -> None:
        check(example)

    try:
        # an example of 30 kB is told whole too: as an error, the warning would stand in place of what was found
        warnings.filterwarnings("ignore", "Generating overly large repr", HypothesisWarning)
        seeded(seed)(kept(given(strategy)(tried)))()
    except BaseException as error:
        error.add_note(f"found with {SEED}={seed}")
        raise
