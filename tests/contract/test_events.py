"""What podman's events say, and when its doorbell rings."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from bridge.errors import PodmanError, UnreachableError
from bridge.plan import Image
from bridge.podman import doorbell, events
from bridge.podman.client import Podman
from tests import versions
from tests.contract.backends import Backend
from tests.double.gates import DEADLINE

SECONDS = DEADLINE
SILENCE = 0.3
"""Seconds of which an event that podman wrote is told at the latest (about 250 ms)."""


@contextlib.asynccontextmanager
async def opened(podman: Podman) -> AsyncIterator[Callable[[], Any]]:
    """Open an events stream; yields a function that waits for the next event."""
    async with contextlib.aclosing(podman.events()) as stream:

        async def following() -> Mapping[str, Any]:
            return await asyncio.wait_for(anext(stream), SECONDS)

        assert await following() == {}
        yield following


def told(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what an event is about."""
    return event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]


async def run(backend: Backend, *words: str) -> str:
    """Run a command beside the stream."""
    return await asyncio.to_thread(backend.run, *words)


async def test_a_build_says_build_with_the_image_id_as_name_and_no_tag(backend: Backend, podman: Podman) -> None:
    async with opened(podman) as following:
        image_id = await asyncio.to_thread(backend.build, "localhost/e-build:1")
        await run(backend, "tag", image_id, "localhost/e-build:after")
        first, second = await following(), await following()
    assert told(first) == ("image", "build", image_id)
    assert first["Actor"]["ID"] == ""
    assert told(second) == ("image", "tag", "localhost/e-build:after")


async def test_tag_names_the_new_name_as_it_was_typed(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/e-tag:1")
    async with opened(podman) as following:
        await run(backend, "tag", image_id, "e-typed")
        assert told(await following()) == ("image", "tag", "e-typed")


async def test_a_name_that_moves_is_told_of_the_winner_only(backend: Backend, podman: Podman) -> None:
    backend.build("localhost/e-moves:1", {"f": b"old"})
    new = backend.build("localhost/e-moves:2", {"f": b"new"})
    async with opened(podman) as following:
        await run(backend, "tag", new, "localhost/e-moves:1")
        await run(backend, "tag", new, "localhost/e-moves:3")
        names = [told(await following())[1:] for _ in range(2)]
    assert names == [("tag", "localhost/e-moves:1"), ("tag", "localhost/e-moves:3")]


async def test_untag_tells_each_name(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/e-untag:1")
    backend.run("tag", image_id, "localhost/e-untag:2")
    async with opened(podman) as following:
        await run(backend, "untag", image_id)
        actions = [told(await following())[1] for _ in range(2)]
    assert actions == ["untag", "untag"]


async def test_rmi_of_one_name_of_two_says_remove_of_an_image_that_is_still_there(
    backend: Backend, podman: Podman
) -> None:
    image_id = backend.build("localhost/e-rmi:1")
    backend.run("tag", image_id, "localhost/e-rmi:2")
    async with opened(podman) as following:
        await run(backend, "rmi", "localhost/e-rmi:1")
        actions = {told(await following())[1] for _ in range(2)}
    assert actions == {"untag", "remove"}
    assert await podman.exists(Image(image_id))


async def test_a_save_emits_save_which_is_no_reason_to_look(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/e-save:1")
    out = backend.directory / "e-save"
    async with opened(podman) as following, contextlib.aclosing(events.one_stream(podman)) as reasons:
        assert await anext(reasons) == events.CONNECTED
        await run(
            backend, "image", "save", "--quiet", "--format=oci-dir", "--uncompressed", f"--output={out}", image_id
        )
        await run(backend, "tag", image_id, "localhost/e-save:2")
        assert told(await following())[1] == "save"
        assert await asyncio.wait_for(anext(reasons), SECONDS) == "image tag"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_stream_ends_when_the_service_does(fresh: Backend, number: signal.Signals) -> None:
    with fresh.service() as process:
        async with Podman(fresh.socket) as podman:
            async with opened(podman) as following:
                process.send_signal(number)
                with pytest.raises((StopAsyncIteration, UnreachableError)):
                    await following()
            await asyncio.to_thread(process.wait, SECONDS)
            with pytest.raises(UnreachableError):
                await podman.images()


async def test_a_podman_without_an_events_logger_says_so(fresh: Backend) -> None:
    without = fresh.without_an_events_logger()
    refused = pytest.raises(PodmanError, match='cannot read events with the "none"')
    with without.service():
        async with Podman(fresh.socket) as podman, contextlib.aclosing(podman.events()) as stream:
            if not versions.A_REFUSED_STREAM_IS_NEVER_OPEN.holds(fresh.version):
                assert await anext(stream) == {}
            with refused:
                await anext(stream)


@contextlib.asynccontextmanager
async def armed(podman: Podman) -> AsyncIterator[Callable[[float], Any]]:
    """Arm the doorbell; yields a function that says whether it rings within so many seconds."""
    directory = (await podman.store()).images_directory
    listening, ringing = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        async for reason in doorbell.one_watch(directory):
            (ringing if reason == "doorbell" else listening).set()

    async def rang(seconds: float) -> bool:
        try:
            await asyncio.wait_for(ringing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    listener = asyncio.create_task(listen())
    await listening.wait()
    try:
        yield rang
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


@pytest.mark.parametrize("words", [("tag", "{id}", "localhost/d:{verb}"), ("untag", "{id}"), ("rmi", "{id}")])
async def test_the_doorbell_rings_for_every_change_of_names_and_images(
    backend: Backend, podman: Podman, words: tuple[str, ...]
) -> None:
    image_id = backend.build(f"localhost/d-{words[0]}:1")
    async with armed(podman) as rang:
        await run(backend, *(word.format(id=image_id, verb=words[0]) for word in words))
        assert await rang(SECONDS)


async def test_the_doorbell_rings_for_a_build_whose_name_is_listed_by_then(backend: Backend, podman: Podman) -> None:
    async with armed(podman) as rang:
        await asyncio.to_thread(backend.build, "localhost/d-build:1")
        assert await rang(SECONDS)
    assert "localhost/d-build:1" in [name for image in await podman.images() for name in image.names]


async def test_the_doorbell_is_silent_for_list_inspect_exists_and_save(backend: Backend, podman: Podman) -> None:
    image_id = backend.build("localhost/d-silent:1")
    async with armed(podman) as rang:
        out = backend.directory / "d-silent"
        await podman.images()
        await podman.inspect(image_id)
        await podman.exists(Image(image_id))
        await run(
            backend, "image", "save", "--quiet", "--format=oci-dir", "--uncompressed", f"--output={out}", image_id
        )
        assert not await rang(SILENCE)
