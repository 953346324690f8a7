"""Looking at podman's store: what is there, which manifest of each image is the current one, what has really gone."""

import asyncio
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from bridge.errors import ImageUnknownError, PodmanError, UnreachableError
from bridge.oci import Digest, Reference
from bridge.plan import Damage, Image, Listing, Plan, Publication, Shown
from bridge.podman.client import Podman
from bridge.policy import Policy
from bridge.publish.job import Transport

_AT_A_TIME = 4
"""Requests under way for single images."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Which manifest was the current one of an image with these digests, when podman described it with this form."""

    digests: frozenset[Digest]
    form: str
    digest: Digest | None


class Lookout:
    """Looks at one store. It remembers the current manifests, so that a look asks podman for little."""

    def __init__(self, podman: Podman, transport: Transport) -> None:
        self._podman = podman
        self._transport = transport
        self._known: dict[str, _Known] = {}
        self._places = asyncio.Semaphore(_AT_A_TIME)

    async def look(self, shown: Shown) -> Listing:
        """List the store, every image with its current manifest. Raises PodmanError if nothing can be listed.

        Only an image with several digests is asked for, and one without names that was published by hand: podman
        tells no digests of it.
        """
        listing = await self._podman.listing()
        by_hand = {one.source.image_id for one in shown.publications.values() if one.requested}
        asked = [image for image in listing.images if _is_ambiguous(image, by_hand)]
        self._known = {image.id: self._known[image.id] for image in asked if image.id in self._known}
        settled = await asyncio.gather(*map(self._settle, asked))
        found = {image.id: one for image, one in zip(asked, settled, strict=True)}
        all_of_them = [found.get(image.id, image) for image in listing.images]
        damage = tuple(one for one in all_of_them if isinstance(one, Damage))
        return Listing(tuple(one for one in all_of_them if isinstance(one, Image)), listing.damage + damage)

    async def plan(self, policy: Policy, shown: Shown) -> Plan:
        """Look, and decide what makes a tree that shows `shown` show the store. Raises PodmanError."""
        listing = await self.look(shown)
        return (await self.spare(policy.plan(listing.images, shown, time.time()), shown))[0]

    async def spare(self, plan: Plan, shown: Shown) -> tuple[Plan, tuple[Damage, ...]]:
        """Return the plan without what takes from the tree an image that podman has and cannot read, and what it says.

        A listing lacks such an image, also one that says nothing of it. So podman is asked for each name that is to go.
        """
        at_risk = list(_at_risk(plan, shown))
        troubles = await asyncio.gather(*map(self._trouble, at_risk))
        damage = {one.reference: trouble for one, trouble in zip(at_risk, troubles, strict=True) if trouble}
        publish = tuple(target for target in plan.publish if target.reference not in damage)
        left = Plan(publish, _without(plan.withdraw, damage), _without(plan.orphan, damage))
        return left, tuple(damage.values())

    async def _settle(self, image: Image) -> Image | Damage:
        """Return the image with its current manifest; what podman says of it if that cannot be found."""
        try:
            async with self._places:
                form = (await self._podman.inspect(image.id)).form
                known = self._known.get(image.id)
                if known is None or (known.digests, known.form) != (image.digests, form):
                    known = _Known(image.digests, form, await self._transport.current(image))
                    self._known[image.id] = known
        except UnreachableError:
            raise
        except ImageUnknownError:
            return image  # it has left the store since it was listed; the next look sees that
        except PodmanError as error:
            return Damage(image.id, str(error))
        return replace(image, digest=known.digest or image.digest, form="" if known.digest else form)

    async def _trouble(self, publication: Publication) -> Damage | None:
        async with self._places:
            image_id = publication.source.image_id
            return await self._podman.trouble(image_id if publication.requested else publication.name, image_id)


def _is_ambiguous(image: Image, by_hand: Collection[str]) -> bool:
    """Return True if the listing does not tell which manifest of an image is the current one."""
    return not image.is_list and (len(image.digests) > 1 or (not image.names and image.id in by_hand))


def _at_risk(plan: Plan, shown: Shown) -> Iterator[Publication]:
    """Yield what a plan withdraws, marks as left by its image, or gives to another name, and no operator holds."""
    published = shown.publications
    for reference in (*plan.withdraw, *plan.orphan):
        if reference not in shown.held:
            yield published[reference]
    for target in plan.publish:
        now = published.get(target.reference)
        if now is not None and (now.name != target.name or (now.requested and not target.requested)):
            yield now


def _without(references: tuple[Reference, ...], damage: Collection[Reference]) -> tuple[Reference, ...]:
    return tuple(reference for reference in references if reference not in damage)
