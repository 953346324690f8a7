"""A publication that somebody waits for: how far it is, what it came to, and both as lines of podman's push stream."""

from dataclasses import dataclass

from bridge.oci import Digest, Reference


@dataclass(frozen=True, slots=True)
class Looking:
    """The image that was asked for is still looked for in podman's store."""

    image: str


@dataclass(frozen=True, slots=True)
class Step:
    """How far the publication of one image under one reference is.

    `image` is podman's image ID. `layers` are those that podman has to write for it, and `layers_done` of
    them are there; both are 0 until its export begins. `written` is in bytes.
    """

    reference: Reference
    image: str
    layers_done: int = 0
    layers: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """One reference that now shows what was asked for. `size` is that of the manifest, in bytes."""

    reference: Reference
    digest: Digest
    size: int


Event = Looking | Step | Shown

Record = dict[str, str]
"""One line of the stream: a JSON object with one key, `stream`, `manifestdigest` or `error`."""


def records(event: Event) -> tuple[Record, ...]:
    """Return an event as libpod's push tells it: text for people, at the end the digest for programs."""
    if isinstance(event, Shown):
        return {"stream": f"Published {event.reference}\n"}, {"manifestdigest": str(event.digest)}
    if isinstance(event, Looking):
        return ({"stream": f"Looking for {event.image} in podman's store\n"},)
    if not event.layers:
        return ({"stream": f"Preparing {event.reference} from image {event.image[:12]}\n"},)
    figures = f"{event.layers_done} of {event.layers} layers, {event.written / 1e6:.1f} MB"
    return ({"stream": f"Exporting {event.reference}: {figures}\n"},)


def failure(message: str) -> Record:
    """Return the record that ends a stream whose publication failed."""
    return {"error": message}
