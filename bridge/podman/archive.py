"""Archives of images, streamed by podman's REST service and taken apart while they come.

Podman writes the whole archive into a temporary file of its own before it sends the first byte (4.3.1): so
it cannot change, or find its image removed, under way.
"""

import hashlib
import http.client
import os
import re
import socket
import tarfile
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bridge.errors import ExportError, PodmanError, UnreachableError
from bridge.oci import Digest
from bridge.podman.client import problem

STALL = 600.0
"""Seconds without a byte after which an export is given up. The first comes when podman has written the whole
archive: 1.8 s for 200 MB (4.3.1)."""

_PIECE = 1 << 20
_SMALL = 64 * 1024 * 1024
"""Bytes of the largest document, and of the largest blob that is written although it is no layer that was asked for:
a config or a manifest. A larger one is passed over: it can only be a layer that the config does not name."""


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of archive: what podman calls it, the paths of its blobs, its documents, and what may be passed over."""

    name: str
    blob: re.Pattern[str]
    documents: frozenset[str]
    passed_over: re.Pattern[str]


OCI = Form(
    "oci-archive",
    re.compile(r"blobs/sha256/([0-9a-f]{64})"),
    frozenset({"index.json", "oci-layout"}),
    re.compile(r"blobs|blobs/sha256"),
)
"""Manifest, config and plain layers; the config of a docker-format image is rewritten."""

DOCKER = Form(
    "docker-archive",
    re.compile(r"([0-9a-f]{64})\.(?:tar|json)"),
    frozenset({"manifest.json"}),
    re.compile(r"repositories|[0-9a-f]{64}(?:/(?:VERSION|json|layer\.tar))?"),
)
"""The exact config and plain layers, no manifest but a list of them, and links for docker before 1.10."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of podman: the image, the form of the archive, and which layers are to be kept, or passed over."""

    image_id: str
    form: Form
    layers: AbstractSet[Digest]
    known: AbstractSet[Digest]


def receive(connection: socket.socket, wanted: Wanted, layout: Path) -> dict[Digest, int]:
    """Ask for an archive, write its blobs and documents into `layout`, and return the size of each blob, in bytes.

    Blocks, and gives up when the connection's own timeout passes without a byte. What is written was hashed
    on the way and is what its name says. Nothing that is no plain file of a known path is written.
    Raises PodmanError, ExportError, or OSError where the disk fails.
    """
    path = f"/v4.0.0/libpod/images/export?format={wanted.form.name}&references={wanted.image_id}"
    answer = http.client.HTTPResponse(connection)
    body = _Body(connection, answer)
    with answer:
        body.ask(f"{path}&ociAcceptUncompressedLayers=true")
        try:
            with tarfile.open(fileobj=body, mode="r|", bufsize=_PIECE) as archive:  # type: ignore[call-overload]
                return _unpack(archive, wanted, layout)
        except tarfile.TarError as error:
            msg = f"podman's export of image {wanted.image_id[:12]} is cut short or damaged: {error}"
            raise ExportError(msg) from error


class _Body:
    """The body of an answer. Says of a connection's failure what it is: OSError is then the disk's own."""

    def __init__(self, connection: socket.socket, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._answer = answer

    def ask(self, path: str) -> None:
        """Send the request and read the head of the answer."""
        try:
            self._connection.sendall(f"GET {path} HTTP/1.1\r\nHost: podman\r\nConnection: close\r\n\r\n".encode())
            self._answer.begin()
            refusal = b"" if self._answer.status == http.HTTPStatus.OK else self._answer.read(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error
        if refusal or self._answer.status != http.HTTPStatus.OK:
            raise problem(self._answer.status, refusal)

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        try:
            return self._answer.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> PodmanError:
        if isinstance(error, TimeoutError):
            msg = f"podman's export made no progress for {self._connection.gettimeout():g} s and was given up"
            return PodmanError(msg)
        return UnreachableError("podman closed the connection in the middle of an export")


def _unpack(archive: tarfile.TarFile, wanted: Wanted, layout: Path) -> dict[Digest, int]:
    sizes: dict[Digest, int] = {}
    seen: set[str] = set()
    for member in archive:
        if member.name in seen:
            msg = f"podman's export has {member.name[:100]!r} twice"
            raise ExportError(msg)
        seen.add(member.name)
        match = wanted.form.blob.fullmatch(member.name)
        content = archive.extractfile(member) if member.isreg() else None
        if match is not None and content is not None:
            digest = Digest("sha256", match[1])
            if digest not in wanted.known and (digest in wanted.layers or member.size <= _SMALL):
                sizes[digest] = _write(content, digest, layout / "blobs" / "sha256" / digest.hex)
        elif member.name in wanted.form.documents and content is not None:
            _require_small(member)
            (layout / member.name).write_bytes(content.read())
        elif wanted.form.passed_over.fullmatch(member.name) is None:
            msg = f"podman's export has {member.name[:100]!r}, which is no part of an image"
            raise ExportError(msg)
    return sizes


def _require_small(member: tarfile.TarInfo) -> None:
    if member.size > _SMALL:
        msg = f"podman's export has {member.name!r} of {member.size} bytes, which is no document of an image"
        raise ExportError(msg)


def _write(content: IO[bytes], digest: Digest, path: Path) -> int:
    """Write a blob and have it on the disk; return its size in bytes. Raises ExportError for other bytes."""
    found, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        while piece := content.read(_PIECE):
            found.update(piece)
            file.write(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    if found.hexdigest() != digest.hex:
        msg = f"podman sent blob {digest} with bytes of digest sha256:{found.hexdigest()}"
        raise ExportError(msg)
    return size
