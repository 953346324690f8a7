"""Pushes to the registry, answered as podman answers a push: to clients from before 4.6 without the digest.

Nothing is uploaded: the image is published straight into the tree.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from bridge.errors import BridgeError, ControlError, ImageUnknownError, InvalidError, UnreachableError
from bridge.oci import Reference
from bridge.progress import Event, Looking, Shown, failure, records
from bridge.relay.exchange import Exchange

_TOLD_DIGEST = (4, 6)
"""The version in a path from which on libpod's clients read a record with the digest."""

Steps = AsyncGenerator[Event]


class Publisher(Protocol):
    """Who publishes."""

    def publishing(self, image: str, reference: Reference | None, *, force: bool = False) -> Steps:
        """Publish an image now, and tell how far it is: steps, and at the end what is shown.

        Something comes every few seconds in any case. Raises ImageUnknownError, and
        BridgeError with the reason why it is not published.
        """


@dataclass(frozen=True, slots=True)
class Push:
    """A push of an image, or of a list, to `destination`, which is as the client wrote it."""

    image: str
    destination: str
    is_list: bool = False

    @property
    def host(self) -> str:
        """Return the registry that is meant, `HOST:PORT`."""
        return self._place.partition("/")[0]

    @property
    def reference(self) -> Reference:
        """Return what is to be published; raise InvalidError for what no reference is, such as a digest."""
        rest = self._place.partition("/")[2]
        return Reference.parse(rest if ":" in rest.rpartition("/")[2] else f"{rest}:latest")

    @property
    def _place(self) -> str:
        return self.destination.removeprefix("docker://")


async def publish(exchange: Exchange, publisher: Publisher, push: Push) -> None:
    """Publish what a push asks for, and answer it in the form that its client expects."""
    try:
        reference = push.reference
    except InvalidError as error:
        await exchange.refuse(400, "invalid reference format", f"pushing {push.destination}: {error}")
        return
    async with aclosing(publisher.publishing(push.image, reference)) as steps:
        if not exchange.call.libpod:
            await _compat(exchange, push, steps)
        elif exchange.call.flag("quiet", default=True):
            await _quiet(exchange, push, steps)
        else:
            await _libpod(exchange, push, steps)


async def _quiet(exchange: Exchange, push: Push, steps: Steps) -> None:
    """Answer once it is done: with an empty line, for a list with its digest; an error is 400, as podman's is."""
    try:
        shown = [step async for step in steps if isinstance(step, Shown)]
    except UnreachableError:
        raise  # 503, as every request is answered while podman is away
    except BridgeError as error:
        await exchange.refuse(400, _cause(error), f"pushing image {_quoted(push.destination)}: {error}")
        return
    if push.is_list:
        await exchange.reply(200, msgspec.json.encode({"Id": str(shown[-1].digest)}) + b"\n")
    else:
        await exchange.reply(200, b"\n", "text/plain; charset=us-ascii")


async def _libpod(exchange: Exchange, push: Push, steps: Steps) -> None:
    """Stream text for people. A list's stream has its digest in the last record, an image's where it is read."""
    async with exchange.stream() as stream:
        try:
            async for step in steps:
                for record in records(step):
                    if "manifestdigest" in record and push.is_list:
                        await stream.write({"Id": record["manifestdigest"]})
                    elif "manifestdigest" not in record or exchange.call.version >= _TOLD_DIGEST:
                        await stream.write({"Id": "", **record} if push.is_list else record)
        except BridgeError as error:
            record = failure(str(error))
            await stream.write({"Id": "", **record} if push.is_list else record)


async def _compat(exchange: Exchange, push: Push, steps: Steps) -> None:
    """Stream what docker shows of a push; an unknown image is 404 before anything is streamed."""
    try:
        while isinstance(first := await anext(steps), Looking):
            pass
    except ImageUnknownError as error:
        message = f"failed to find image {push.image}: {push.image}: image not known"
        await exchange.refuse(404, _cause(error), message)
        return
    except UnreachableError:
        raise  # 503
    except BridgeError as error:
        await exchange.refuse(500, _cause(error), str(error))
        return
    async with exchange.stream() as stream:
        await stream.write({"status": f"The push refers to repository [{push.destination}]"})
        try:
            async for step in _chained(first, steps):
                for record in _docker(step):
                    await stream.write(record)
        except BridgeError as error:
            await stream.write({"errorDetail": {"message": str(error)}, "error": str(error)})


async def _chained(first: Event, rest: Steps) -> AsyncIterator[Event]:
    yield first
    async for step in rest:
        yield step


def _docker(step: Event) -> tuple[dict[str, object], ...]:
    if isinstance(step, Shown):
        tag, digest = step.reference.tag.name, str(step.digest)
        return (
            {"status": f"{tag}: digest: {digest} size: {step.size}"},
            {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": step.size}},
        )
    if isinstance(step, Looking):
        return ()  # nothing may be told before the image is found
    done = f"Exporting, {step.layers_done} of {step.layers} layers" if step.layers else "Preparing"
    return ({"status": done, "progressDetail": {"current": step.written}, "id": step.image[:12]},)


def _cause(error: BridgeError) -> str:
    match error:
        case ImageUnknownError():
            return "image not known"
        case ControlError():
            return "not published"
        case _:
            return str(error)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
