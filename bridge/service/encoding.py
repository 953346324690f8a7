"""Encodings in the background: after every publication a program of its own makes what is missing."""

import logging
import math
import sys
from asyncio import Event, timeout
from contextlib import suppress

from bridge.config import Config
from bridge.errors import InvalidError, PodmanError
from bridge.podman import process
from bridge.service.settings import Settings
from bridge.tree.encodings import Encoded
from bridge.untrusted_json import decode

log = logging.getLogger(__name__)


async def keep_encoded(settings: Settings, published: Event) -> None:
    """Make encodings now and whenever `published` is set, for ever; a failed pass is tried again at the resync time.

    It makes none while the settings give them no space.
    Nothing else wakes it: encodings that are dropped by hand are made again after the next publication, or start.
    A pass that is cancelled, or killed with podbridge, has lost at most the encoding under way.
    """
    told = ""
    while True:
        published.clear()
        config = settings.config
        failure = await encode_once(config) if config.encodings.space else ""
        if failure not in ("", told):
            log.warning("encodings are missing, tried again later error=%r", failure)
        told = failure
        with suppress(TimeoutError):
            async with timeout(config.resync if failure else None):
                await published.wait()


async def encode_once(config: Config) -> str:
    """Make what encodings are missing, at idle priority, in the space that is allowed; return what failed, if any."""
    command = (
        sys.executable,
        "-m",
        "bridge.tree.encoder",
        str(config.tree.absolute()),
        str(int(config.encodings.space)),
    )
    try:
        # No limit on its time: at idle priority it waits for as long as the machine is busy.
        encoded = decode(await process.run(command, stall=math.inf), "what the encoder says", Encoded)
    except (PodmanError, InvalidError) as error:
        return str(error)
    if encoded.made:
        log.info("encoded blobs=%d bytes=%d into=%d", encoded.made, encoded.read, encoded.written)
    return ""
