"""What a hook is told, as one JSON document and as variables. docs: hooks/README.md, "The contract"."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

HOOK_API = 1
"""Raised when something is taken out of the document or means something else; new keys may come at any time."""


class ImageDocument(msgspec.Struct, frozen=True, rename="camel"):
    """The image in podman's store. `digest` is the one that podman shows; a list has no `architecture` and no `os`."""

    id: str
    digest: str | None = None
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    architecture: str = ""
    os: str = ""
    created: str | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a publication at a stage; null is what is not known, or not there.

    `digest` is the one that is served, `previous_digest` what the reference showed before. `layout` is the
    path of an OCI image layout that holds the image under its tag; it is never to be written to. `size` is in
    bytes, before an export as podman counts, after it of everything that a pull transfers.
    """

    hook_api: int = HOOK_API
    stage: str
    reference: str
    repository: str
    tag: str
    digest: str | None = None
    previous_digest: str | None = None
    media_type: str | None = None
    fidelity: str | None = None
    size: int
    image: ImageDocument
    layout: str | None = None
    trigger: str
    attempt: int
    message: str = ""
    denied_by: str | None = None

    def variables(self) -> dict[str, str]:
        """Return what shell scripts need, as variables; what is not known is empty. Labels come one a line."""
        told = {
            "HOOK_API": self.hook_api,
            "STAGE": self.stage,
            "REFERENCE": self.reference,
            "REPOSITORY": self.repository,
            "TAG": self.tag,
            "DIGEST": self.digest,
            "PREVIOUS_DIGEST": self.previous_digest,
            "MEDIA_TYPE": self.media_type,
            "FIDELITY": self.fidelity,
            "SIZE": self.size,
            "IMAGE_ID": self.image.id,
            "IMAGE_NAMES": " ".join(self.image.names),
            "LABELS": "\n".join(f"{_line(key)}={_line(value)}" for key, value in sorted(self.image.labels.items())),
            "ARCHITECTURE": self.image.architecture,
            "OS": self.image.os,
            "LAYOUT": self.layout,
            "TRIGGER": self.trigger,
            "ATTEMPT": self.attempt,
            "MESSAGE": self.message,
            "DENIED_BY": self.denied_by,
        }
        return {f"PODBRIDGE_{key}": "" if value is None else str(value) for key, value in told.items()}


def moment(seconds: float) -> str | None:
    """Return a time in seconds since the epoch as RFC 3339 writes it.

    None for 0, which is an unknown one, and for a time outside the years 1 to 9999, which RFC 3339 cannot write: an
    image says of itself when it was made.
    """
    if not seconds:
        return None
    try:
        written = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return written.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _line(text: str) -> str:
    return " ".join(text.splitlines())
