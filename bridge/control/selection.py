"""Choosing among publications."""

import fnmatch
from typing import Annotated

import msgspec

from bridge.control.schema import PublicationView, State


class Selection(msgspec.Struct, forbid_unknown_fields=True):
    """Which publications: all that fit every word that is given.

    `state` may be repeated. `repository` is a glob. `image` is a podman name, or an image ID or the
    beginning of one; `digest` one that the publication is served as or came from, or the beginning of it.
    `n` at most, after the reference `last`.
    """

    state: tuple[State, ...] = ()
    repository: str = "*"
    image: str = ""
    digest: str = ""
    n: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    last: str = ""

    def admits(self, view: PublicationView) -> bool:
        """Say whether a publication is one of those."""
        return (
            (not self.state or view.state in self.state)
            and fnmatch.fnmatchcase(view.reference.rpartition(":")[0], self.repository)
            and (not self.image or self._is_of_image(view))
            and (not self.digest or self._is_known_by_digest(view))
        )

    def _is_of_image(self, view: PublicationView) -> bool:
        return self.image == view.name or view.image.startswith(self.image.removeprefix("sha256:"))

    def _is_known_by_digest(self, view: PublicationView) -> bool:
        hexes = (text.removeprefix("sha256:") for text in (view.digest, view.podman_digest, view.image, *view.origins))
        return any(known.startswith(self.digest.removeprefix("sha256:")) for known in hexes if known)
