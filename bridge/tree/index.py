"""`index.json`, the truth of a repository: one descriptor per tag, and those that are on their way out.

A descriptor with `org.opencontainers.image.ref.name` is a publication. One without is superseded: its
tag moved or went, and it stays until the grace period ends, for pulls under way. Annotations say
where each came from.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from bridge.errors import InvalidError
from bridge.oci import OCI_INDEX, Descriptor, Digest, Reference, Repository, Tag
from bridge.plan import Fidelity, Keep, Publication, Source
from bridge.untrusted_json import decode

_TAG = "org.opencontainers.image.ref.name"
_OURS = "io.podbridge."
_HELD = _OURS + "held"
_LONGEST = 256 * 1024 * 1024
"""Bytes of the longest `index.json` that is read: 1 kB for each publication."""
_LARGEST = 2**63 - 1
"""Bytes of the largest image that an index can name."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A publication that is no longer shown; `since` is in seconds since the epoch."""

    publication: Publication
    since: float

    @property
    def key(self) -> tuple[Repository, Digest, int]:
        """What tells it from others, and from another time: `index.json` has the time in milliseconds."""
        return self.publication.reference.repository, self.publication.descriptor.digest, round(self.since * 1000)


@dataclass(frozen=True, slots=True)
class Index:
    """What one repository shows, what it still hands out by digest, and which tags are held out."""

    repository: Repository
    publications: Mapping[Tag, Publication] = field(default_factory=dict)
    superseded: tuple[Superseded, ...] = ()
    held: frozenset[Tag] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.publications or self.superseded or self.held)

    @property
    def everything(self) -> tuple[Publication, ...]:
        """What is shown, and then what was."""
        return (*self.publications.values(), *(old.publication for old in self.superseded))

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """Every manifest that a client can ask for by digest, once."""
        return tuple({item.descriptor.digest: item.descriptor for item in self.everything}.values())

    def publish(self, publication: Publication, now: float) -> Self:
        """Return the index with the publication in place of what its tag showed."""
        tag = publication.reference.tag
        publications = {**self.publications, tag: publication}
        return self._with(publications, self._retire(tag, now), self.held - {tag})

    def withdraw(self, tag: Tag, now: float, *, hold: bool) -> Self:
        """Return the index without the tag; with `hold` the tag is noted as to be kept out."""
        publications = {other: item for other, item in self.publications.items() if other != tag}
        return self._with(publications, self._retire(tag, now), self.held | ({tag} if hold else set()))

    def orphan(self, tag: Tag, now: float) -> Self:
        """Return the index with the tag marked as kept although its image has gone."""
        marked = replace(self.publications[tag], gone=now)
        return self._with({**self.publications, tag: marked}, self.superseded, self.held)

    def release(self, tag: Tag) -> Self:
        """Return the index with the tag no longer held."""
        return self._with(self.publications, self.superseded, self.held - {tag})

    def sweep(self, is_old: Callable[[Superseded], bool]) -> Self:
        """Return the index without what was superseded long enough ago; this one if that is nothing."""
        if not any(map(is_old, self.superseded)):
            return self
        return self._with(self.publications, tuple(old for old in self.superseded if not is_old(old)), self.held)

    def without(self, damaged: Collection[Digest]) -> Self:
        """Return the index without these manifests, as if they had never been published."""
        publications = {tag: item for tag, item in self.publications.items() if item.descriptor.digest not in damaged}
        kept = tuple(old for old in self.superseded if old.publication.descriptor.digest not in damaged)
        return self._with(publications, kept, self.held)

    def _retire(self, tag: Tag, now: float) -> tuple[Superseded, ...]:
        shown = self.publications.get(tag)
        return self.superseded if shown is None else (*self.superseded, Superseded(shown, now))

    def _with(
        self,
        publications: Mapping[Tag, Publication],
        superseded: tuple[Superseded, ...],
        held: frozenset[Tag],
    ) -> Self:
        shown = {item.descriptor.digest for item in publications.values()}
        latest = {old.publication.descriptor.digest: old for old in superseded}
        kept = tuple(old for digest, old in latest.items() if digest not in shown)
        return replace(self, publications=publications, superseded=kept, held=held)

    @classmethod
    def parse(cls, repository: Repository, content: bytes) -> Self:
        """Read an `index.json`; raise InvalidError where it is none."""
        try:
            value = decode(content, "index.json", limit=_LONGEST)
            entries = [_read(repository, entry) for entry in value["manifests"]]
            held = frozenset(Tag(tag) for tag in (value.get("annotations") or {}).get(_HELD, "").split())
        except (InvalidError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            msg = f"repository {repository}: index.json is damaged: {error!r}"
            raise InvalidError(msg) from error
        return cls(
            repository,
            {entry.reference.tag: entry for entry, since in entries if since is None},
            tuple(Superseded(entry, since) for entry, since in entries if since is not None),
            held,
        )

    def dump(self) -> bytes:
        """Return the bytes of `index.json`."""
        manifests = [_write(item) for _, item in sorted(self.publications.items())]
        manifests += [_write(old.publication, old.since) for old in self.superseded]
        value: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        if self.held:
            value["annotations"] = {_HELD: " ".join(sorted(tag.name for tag in self.held))}
        return msgspec.json.format(msgspec.json.encode(value), indent=1)


def _write(item: Publication, since: float | None = None) -> dict[str, Any]:
    notes = {
        _TAG if since is None else _OURS + "tag": item.reference.tag.name,
        _OURS + "image.id": item.source.image_id,
        _OURS + "image.digest": str(item.source.digest or ""),
        _OURS + "name": item.name,
        _OURS + "fidelity": str(item.fidelity),
        _OURS + "size": str(item.size),
        _OURS + "published": _time(item.published),
    }
    if item.source.form:
        notes[_OURS + "image.form"] = item.source.form
    if item.requested:
        notes[_OURS + "requested"] = "true"
    if item.origins:
        notes[_OURS + "origins"] = " ".join(sorted(map(str, item.origins)))
    if item.keep:
        notes[_OURS + "keep"] = str(float(item.keep))
    if item.gone is not None:
        notes[_OURS + "gone"] = _time(item.gone)
    if since is not None:
        notes[_OURS + "superseded"] = _time(since)
    return replace(item.descriptor, annotations=notes).to_json()


def _read(repository: Repository, entry: Any) -> tuple[Publication, float | None]:
    descriptor = Descriptor.from_json(entry)
    notes = descriptor.annotations
    since, gone = notes.get(_OURS + "superseded"), notes.get(_OURS + "gone")
    tag = Tag(notes.get(_TAG) or notes.get(_OURS + "tag") or "")
    publication = Publication(
        reference=Reference(repository, tag),
        descriptor=replace(descriptor, annotations={}),
        source=_source(notes),
        fidelity=Fidelity(notes.get(_OURS + "fidelity", Fidelity.EXACT)),
        name=notes.get(_OURS + "name", ""),
        size=_size(notes.get(_OURS + "size", descriptor.size)),
        published=_seconds(notes.get(_OURS + "published", "1970-01-01T00:00:00Z")),
        requested=_OURS + "requested" in notes,
        origins=frozenset(Digest.parse(text) for text in notes.get(_OURS + "origins", "").split()),
        keep=_keep(notes.get(_OURS + "keep", 0)),
        gone=None if gone is None else _seconds(gone),
    )
    return publication, None if since is None else _seconds(since)


def _size(text: str | int) -> int:
    size = int(text)
    if not 0 <= size <= _LARGEST:
        msg = f"not a size in bytes: {str(text)[:100]}"
        raise ValueError(msg)
    return size


def _keep(text: str | float) -> Keep:
    keep = Keep(text)
    if math.isnan(keep) or keep < 0:
        msg = f"not a time to keep: {text}"
        raise ValueError(msg)
    return keep


def _seconds(text: str) -> float:
    """Return a time in seconds since the epoch, which `_time` can write again; raise ValueError, OverflowError."""
    seconds = datetime.fromisoformat(text).timestamp()
    _time(seconds)
    return seconds


def _source(notes: Mapping[str, str]) -> Source:
    digest = notes.get(_OURS + "image.digest")
    form = notes.get(_OURS + "image.form", "")
    return Source(notes.get(_OURS + "image.id", ""), Digest.parse(digest) if digest else None, form)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
