"""Bytes that are kept because they can never change: what a digest names is the same for ever."""

from collections import OrderedDict

from bridge.oci import Digest


class Memory:
    """The content of blobs used last, by digest, at most `limit` bytes in all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._contents: OrderedDict[Digest, bytes] = OrderedDict()

    def get(self, digest: Digest) -> bytes | None:
        """Return the bytes if they are kept; that says nothing of who may have them."""
        content = self._contents.get(digest)
        if content is not None:
            self._contents.move_to_end(digest)
        return content

    def put(self, digest: Digest, content: bytes) -> None:
        """Keep the bytes, which the digest names, and forget those used longest ago where they are too many."""
        if digest in self._contents or len(content) > self._limit // 8:
            return
        self._contents[digest] = content
        self._held += len(content)
        while self._held > self._limit:
            _, old = self._contents.popitem(last=False)
            self._held -= len(old)
