"""What the log says of a pass: each thing once, as long as it stands."""

import logging

from bridge.plan import Damage, Plan, Shown
from bridge.policy import Wanted

log = logging.getLogger(__name__)


def warn(before: Wanted, now: Wanted) -> None:
    """Warn of each conflict and each name that cannot be published, which was not there before."""
    for conflict in set(now.conflicts) - set(before.conflicts):
        log.warning(
            "two names for one reference, the first is published reference=%s published=%s left_out=%s",
            conflict.reference, conflict.winner, conflict.loser,
        )  # fmt: skip
    for decision in set(now.refused) - set(before.refused):
        log.warning("name cannot be published name=%s reason=%r", decision.name, decision.reason)


def damage(before: tuple[Damage, ...], now: tuple[Damage, ...]) -> None:
    """Say of each image that podman cannot read, which was not there before, how to be rid of it."""
    for one in set(now) - set(before):
        log.error("podman cannot read an image, the others are published image=%s error=%r", one.image_id, str(one))


def mass_withdrawal(plan: Plan, shown: Shown) -> None:
    """Say that an operator must decide."""
    log.error(
        "mass withdrawal held back, is podman's store there? `podbridge resync --prune` lets it through "
        "withdraw=%d published=%d",
        len(plan.withdraw), len(shown.publications),
    )  # fmt: skip
