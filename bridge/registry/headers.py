"""The headers of what is served by content, and the answer to a client that has it already."""

from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from bridge.oci import Descriptor, Digest
from bridge.registry.access import reader_of
from bridge.registry.errors import COMMON
from bridge.registry.negotiation import matches

IMMUTABLE = "public, max-age=31536000, immutable"
"""For what a digest names: it never changes."""

_IMMUTABLE_PRIVATE = "private, max-age=31536000, immutable"
"""The same for a reader with a name: a cache between us must not give it to others."""

REVALIDATE = "no-cache"
"""For what a tag or a list shows: a cache may keep it, and has to ask every time."""

_KEPT = ("Cache-Control", "Docker-Content-Digest", "ETag", "Vary")

Headers = CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class About:
    """What is said of bytes that a digest names: its headers, and the head of a 200 up to length and date."""

    headers: Headers
    head: bytes

    @classmethod
    def of(cls, headers: CIMultiDict[str]) -> "About":
        """Make it once, for all answers."""
        lines = (f"{name}: {value}\r\n" for name, value in headers.items())
        return cls(CIMultiDictProxy(headers), f"HTTP/1.1 200 OK\r\n{''.join(lines)}".encode("latin-1"))


def of_manifest(descriptor: Descriptor, caching: str) -> About:
    """Return what is said of a manifest: it is served with its own media type, or not at all (`Vary`)."""
    return _of_content(descriptor.media_type, descriptor.digest.algorithm, descriptor.digest.hex, caching)


def of_blob(digest: Digest, caching: str) -> About:
    """Return what is said of a blob."""
    return _of_content("application/octet-stream", digest.algorithm, digest.hex, caching)


def immutable(request: web.BaseRequest) -> str:
    """Return the caching of what a digest names, for who asks."""
    return IMMUTABLE if reader_of(request).user is None else _IMMUTABLE_PRIVATE


@lru_cache(maxsize=1024)
def of_encoding(digest: Digest, coding: str, caching: str) -> About:
    """Return what is said of a blob in a content coding. Its digest stays that of the blob itself.

    The entity tag is weak: what one version of a compressor makes is not byte for byte what the next
    one does. So it never answers `If-Range`, and a pull that was cut goes on in the blob's own bytes.
    """
    headers = CIMultiDict(of_blob(digest, caching).headers)
    headers["Content-Encoding"] = coding
    headers["ETag"] = f'W/"{digest}+{coding}"'
    headers["Accept-Ranges"] = "none"
    return About.of(headers)


@lru_cache(maxsize=4096)
def _of_content(media_type: str, algorithm: str, encoded: str, caching: str) -> About:
    """Return what is said of bytes that have a digest. The entity tag is the digest, in quotes."""
    digest = f"{algorithm}:{encoded}"
    negotiated = media_type != "application/octet-stream"
    headers = CIMultiDict(COMMON)
    headers["Content-Type"] = media_type
    headers["Docker-Content-Digest"] = digest
    headers["ETag"] = f'"{digest}"'
    headers["Cache-Control"] = caching
    headers.update({"Vary": "Accept"} if negotiated else {"Vary": "Accept-Encoding", "Accept-Ranges": "bytes"})
    return About.of(headers)


def not_modified(request: web.BaseRequest, headers: Headers) -> web.Response | None:
    """Return a 304 where the client's `If-None-Match` says that it has what `headers` describe.

    It repeats what a 200 would say: https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.5
    """
    known = request.headers.getall("If-None-Match", None)
    if known is None or not matches(",".join(known), headers["ETag"]):
        return None
    return web.Response(status=304, headers=COMMON | {name: headers[name] for name in _KEPT if name in headers})
