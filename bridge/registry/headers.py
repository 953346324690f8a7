"""The headers of what is served by content, and the answer to a client that has it already."""

from aiohttp import web

from bridge.oci import Digest
from bridge.registry.errors import COMMON
from bridge.registry.negotiation import matches

IMMUTABLE = "public, max-age=31536000, immutable"
"""For what a digest names: it never changes."""

REVALIDATE = "no-cache"
"""For what a tag or a list shows: a cache may keep it, and has to ask every time."""

_KEPT = ("Cache-Control", "Docker-Content-Digest", "ETag", "Vary")


def of_content(media_type: str, digest: Digest, caching: str) -> dict[str, str]:
    """Return the headers of bytes that have a digest. The entity tag is the digest, in quotes."""
    text = str(digest)
    return {
        "Content-Type": media_type,
        "Docker-Content-Digest": text,
        "ETag": f'"{text}"',
        "Cache-Control": caching,
        **COMMON,
    }


def not_modified(request: web.BaseRequest, headers: dict[str, str]) -> web.Response | None:
    """Return a 304 where the client's `If-None-Match` says that it has what `headers` describe.

    It repeats what a 200 would say: https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.5
    """
    known = request.headers.get("If-None-Match")
    if known is None or not matches(",".join(request.headers.getall("If-None-Match")), headers["ETag"]):
        return None
    return web.Response(status=304, headers=COMMON | {name: headers[name] for name in _KEPT if name in headers})
