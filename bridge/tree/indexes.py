"""The indexes of all repositories, and which of them has something of an image."""

from collections.abc import Iterator

from bridge.oci import Repository
from bridge.plan import Publication, Source
from bridge.tree.index import Index


class Indexes(dict[Repository, Index]):
    """The index of each repository. May be read while another thread changes it."""

    def __init__(self) -> None:
        super().__init__()
        self._holders: dict[Source, frozenset[Repository]] = {}

    def __setitem__(self, repository: Repository, index: Index) -> None:
        before = self._sources(repository)
        super().__setitem__(repository, index)
        self._note(repository, before)

    def __delitem__(self, repository: Repository) -> None:
        before = self._sources(repository)
        super().__delitem__(repository)
        self._note(repository, before)

    def of(self, source: Source) -> Iterator[Publication]:
        """Yield what was published from an image, shown or superseded: a pass asks for each that it misses."""
        for repository in self._holders.get(source, ()):
            index = self.get(repository)
            if index is not None:
                yield from (item for item in index.everything if item.source == source)

    def _note(self, repository: Repository, before: frozenset[Source]) -> None:
        now = self._sources(repository)
        for source in now - before:
            self._holders[source] = self._holders.get(source, frozenset()) | {repository}
        for source in before - now:
            self._holders[source] -= {repository}
            if not self._holders[source]:
                del self._holders[source]

    def _sources(self, repository: Repository) -> frozenset[Source]:
        index = self.get(repository)
        return frozenset() if index is None else frozenset(item.source for item in index.everything)
