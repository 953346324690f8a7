"""What a manifest references: read once, since what a digest names never changes. Its presence is seen each time.

A sweep of thousands of publications would otherwise read a hundred megabytes of manifests each time.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from bridge.errors import DamagedError, TreeError
from bridge.oci import Descriptor, Digest, Manifest
from bridge.tree import disk
from bridge.tree.paths import RepositoryPaths, TreePaths


@dataclass(frozen=True, slots=True)
class Part:
    """A blob that a manifest references, or the manifest itself; `size` is in bytes."""

    digest: Digest
    size: int
    is_manifest: bool

    @classmethod
    def of(cls, descriptor: Descriptor) -> "Part":
        """Return what a descriptor says."""
        return cls(descriptor.digest, descriptor.size, descriptor.is_manifest)


class Closures:
    """What the manifests of a tree reference. Safe to use from several threads.

    `sizes` are the sizes of all blobs that it has heard of, in bytes.
    """

    def __init__(self, paths: TreePaths) -> None:
        self.sizes: dict[Digest, int] = {}
        self._paths = paths
        self._common = str(paths.root / "blobs")
        self._references: dict[Digest, tuple[Part, ...]] = {}
        self._parts: dict[Part, Part] = {}

    def parts(self, descriptor: Descriptor, spare: RepositoryPaths | None = None) -> Iterator[Part]:
        """Yield a manifest and everything that it references, each once, whether it is there or not.

        Raises TreeError or InvalidError where a manifest that is not known yet cannot be read: then nobody can say
        what it references. What the repository `spare` still has of it is put back first.
        """
        seen: set[Digest] = set()
        waiting = [self._known(Part.of(descriptor))]
        while waiting:
            part = waiting.pop()
            if part.digest in seen:
                continue
            seen.add(part.digest)
            yield part
            if part.is_manifest:
                waiting.extend(self._references_of(part, spare))

    def whole(self, descriptor: Descriptor, spare: RepositoryPaths | None = None) -> Iterator[Part]:
        """Yield the same as `parts`; every blob is there, with its size.

        Raises TreeError where that is not so. What the repository `spare` still has is put back instead.
        """
        for part in self.parts(descriptor, spare):
            self._require(part, spare)
            yield part

    def size(self, descriptor: Descriptor) -> int:
        """Return the bytes of a manifest and everything it references, each blob once; raises as `whole`."""
        return sum(part.size for part in self.whole(descriptor))

    def has(self, digest: Digest) -> bool:
        """Return True if the tree holds the blob, with the size that it is known to have."""
        size = disk.size(self._paths.blob(digest))
        return size >= 0 and size == self.sizes.get(digest, size)

    def keep(self, digests: AbstractSet[Digest]) -> None:
        """Forget every manifest but these."""
        self._references = {digest: parts for digest, parts in self._references.items() if digest in digests}
        self._parts = {part: part for part in self._parts if part.digest in digests}
        self._parts |= {part: part for parts in self._references.values() for part in parts}
        self.sizes = {part.digest: part.size for part in self._parts}

    def _references_of(self, part: Part, spare: RepositoryPaths | None) -> tuple[Part, ...]:
        known = self._references.get(part.digest)
        if known is None:
            self._require(part, spare)
            content = self._read(part, spare)
            known = tuple(self._known(Part.of(item)) for item in Manifest.parse(content).references)
            self._references[part.digest] = known
        return known

    def _read(self, part: Part, spare: RepositoryPaths | None) -> bytes:
        blob = self._paths.blob(part.digest)
        content = disk.read(blob)
        if part.digest.matches(content):
            return content
        if spare is not None and not disk.is_same(spare.blob(part.digest), blob):
            other = disk.read(spare.blob(part.digest))
            if part.digest.matches(other):
                blob.unlink()
                disk.link(spare.blob(part.digest), blob)
                return other
        raise DamagedError(str(part.digest))

    def _require(self, part: Part, spare: RepositoryPaths | None) -> None:
        found = disk.size(f"{self._common}/{part.digest.algorithm}/{part.digest.hex}")
        if found == part.size:
            return
        blob = self._paths.blob(part.digest)
        if spare is not None and disk.size(spare.blob(part.digest)) == part.size:
            disk.remove(blob)
            disk.link(spare.blob(part.digest), blob)
            return
        what = f"the tree lacks blob {part.digest}" if found < 0 else f"blob {part.digest} is cut short"
        msg = what if found < 0 else f"{what}: {found} of {part.size} bytes"
        raise TreeError(msg)

    def _known(self, part: Part) -> Part:
        self.sizes[part.digest] = part.size
        return self._parts.setdefault(part, part)
