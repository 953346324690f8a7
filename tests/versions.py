"""What differs between the versions of podman that podbridge works with: one line for each fact, for all tests.

docs/podman.md says the same in words, and names the contract test of each line. The double is podman 4.3.1.
"""

import functools
import re
from dataclasses import dataclass

from tests.double.server import VERSION as DOUBLE
from tests.end_to_end.programs import run

__all__ = ["DOUBLE", "Fact", "installed", "parse"]

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is true of podman since a version."""

    since: Version

    def holds(self, version: Version | None = None) -> bool:
        """Return True if it is true of that version, by default of the podman that is installed."""
        return (version or installed()) >= self.since


A_TERMINATED_SAVE_FAILS = Fact((5, 3))
"""Before, `podman image save` ends with 0 after a SIGTERM, with half a directory."""

A_SPOOL_HAS_NO_NAME = Fact((5, 0))
"""A layer is spooled into a file of TMPDIR that is unlinked at once. Before, it had its name until it was copied."""

A_SAVE_TELLS_TRUE_MEDIA_TYPES = Fact((5, 0))
"""`image save --uncompressed` labels plain tar so. Before, what was pulled kept `tar+gzip` or `tar+zstd`."""

A_SAVE_LEAVES_OUT_NONDISTRIBUTABLE_LAYERS = Fact((5, 5))
"""`image save` does not write layers with the media type of those that may not be distributed (5.4.2 does)."""

A_NAME_OF_A_LIST_FINDS_ITS_MEMBER = Fact((5, 0))
"""The filter by reference finds, by the name of a list, also its member for this machine."""

THE_LATEST_NAME_IS_FIRST = Fact((5, 0))
"""The listing has an image's names from the latest to the first that it was given. Before, the other way."""

A_REFUSED_STREAM_IS_NEVER_OPEN = Fact((5, 1))
"""A stream of events that podman cannot give is answered 500. Before, 200 and the error as its one line."""

A_PUSH_TELLS_ITS_DIGEST = Fact((4, 6))
"""The stream of a push over libpod's API has a record `manifestdigest`."""

A_LISTING_PASSES_OVER_A_LOST_LAYER = Fact((5, 4))
"""An image that lacks a layer is left out of the listing without a word. Before, the whole listing fails for it."""

A_LISTING_FAILS_FOR_A_LOST_LIST = Fact((5, 5))
"""A manifest list without its manifest fails every listing, whatever the filters. Before, `id!` leaves it out."""

A_LISTING_NAMES_NO_GARBLED_MANIFEST = Fact((5, 4))
"""The words with which a listing fails for a manifest that is no JSON do not name its image."""

A_BUILD_TELLS_ITS_ANNOTATIONS = Fact((5, 5))
"""`build --annotation` writes into the history too, so other annotations make another image."""

A_SAVE_NEEDS_MEDIA_TYPES = Fact((5, 4))
"""`image save` fails for a layer whose manifest tells no media type."""


def parse(text: str) -> Version:
    """Return the numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text.partition("-")[0])))


@functools.cache
def installed() -> Version:
    """Return the version of the podman on the PATH."""
    return parse(run("podman", "--version").rpartition(" ")[2])
