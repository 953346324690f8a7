"""Exports over podman's REST service: a whole copy of the image each time, streamed, with no program but podman's own.

For a podbridge that cannot see podman's store: a user of its own with access to the socket, a container.
"""

import asyncio
import contextlib
import socket

from bridge.errors import ExportError, UnreachableError
from bridge.oci import DOCKER_MANIFEST, Digest
from bridge.plan import Image
from bridge.podman import archive
from bridge.podman.client import Podman
from bridge.publish import layout, manifests, threads
from bridge.publish.job import Job, Written


class Rest:
    """Reads archives from podman's service, and keeps of them what the tree lacks."""

    def __init__(self, podman: Podman, stall: float = archive.STALL) -> None:
        self._podman = podman
        self._stall = stall

    async def write(self, job: Job) -> Written:
        """Receive the image; every byte that is kept is hashed while it is written.

        A docker-format image comes as a docker archive, which has its exact config but no manifest:
        podman and buildah write manifests in one way only, and the digest that podman shows proves it.
        """
        is_docker = job.inspected.manifest_type == DOCKER_MANIFEST
        blobs = await self._receive(job, archive.DOCKER if is_docker else archive.OCI)
        sizes = {digest: blobs[digest] for digest in job.missing & blobs.keys()}
        for digest in job.missing - sizes.keys():
            msg = f"podman left out layer {digest} of image {job.image.id[:12]}"
            raise ExportError(msg)
        if is_docker:
            return await threads.run(_docker, job, sizes)
        saved, config = await threads.run(layout.read, job.layout, job.image)
        return Written(sizes, config, saved)

    async def index(self, image: Image) -> bytes:
        """Raise ExportError: the service writes one platform of a list, and says nothing of the others."""
        called = image.names[0] if image.names else image.id[:12]
        msg = (
            f"manifest list {called} cannot be exported over podman's socket, which gives one platform of it only: "
            "run podbridge where the store is, with podman and skopeo (podman.export: local)"
        )
        raise ExportError(msg)

    async def _receive(self, job: Job, form: archive.Form) -> dict[Digest, int]:
        """Read the archive in a thread; a cancellation closes the connection, and the thread with it."""
        with await self._connect() as connection:
            wanted = archive.Wanted(job.image.id, form, job.missing, frozenset(job.known))
            receiving = asyncio.ensure_future(threads.run(archive.receive, connection, wanted, job.layout))
            try:
                return await asyncio.shield(receiving)
            except asyncio.CancelledError:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                await asyncio.wait({receiving})
                receiving.exception()  # nobody waits for it any more
                raise

    async def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._stall):
                await asyncio.get_running_loop().sock_connect(connection, str(self._podman.socket))
        except OSError as error:
            connection.close()
            msg = f"podman does not answer on {self._podman.socket}: {error.strerror or error}"
            raise UnreachableError(msg) from error
        except asyncio.CancelledError:
            connection.close()
            raise
        connection.settimeout(self._stall)
        return connection


def _docker(job: Job, sizes: dict[Digest, int]) -> Written:
    try:
        config = job.blob(Digest("sha256", job.image.id)).read_bytes()
    except FileNotFoundError as error:
        msg = f"podman's export is cut short: the config of image {job.image.id[:12]} is missing"
        raise ExportError(msg) from error
    return Written(sizes, config, manifests.docker(config, job.layers(sizes)))
