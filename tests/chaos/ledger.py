"""What a power cut could take, by the calls that programs made: bytes and names that are not on the disk for certain.

ledger = Ledger(tree)
for call in shim.calls():
    ledger.note(call)
ledger.faults                   # in words, none if the order of the calls was right
"""

from collections.abc import Callable
from pathlib import Path

from tests.chaos.shim import Call

_WRITES = ("open", "write", "truncate")


class Ledger:
    """Follows the calls below a tree, in order, whichever process made them.

    `_dirty` are files that were written and not fsynced since, `_unsettled` names that were made or removed in a
    directory and not fsynced since, `_linked` the layouts and blobs that were linked into them. `renamed` counts what
    came into the tree by a rename or a link.
    """

    def __init__(self, tree: Path) -> None:
        self.faults: list[str] = []
        self.renamed = 0
        self._tree = str(tree)
        self._scratch = (f"{tree}/staging/", f"{tree}/encoded/staging/")
        self._dirty: set[str] = set()
        self._unsettled: set[str] = set()
        self._linked: set[tuple[str, str]] = set()

    def note(self, call: Call) -> None:
        """Hear of the next call."""
        path = call.paths[-1]
        if call.name in _WRITES:
            self._dirty.add(path)
        elif call.name == "fsync":
            self._dirty.discard(path)
            self._unsettled = {name for name in self._unsettled if str(Path(name).parent) != path}
        elif call.name in ("rename", "link"):
            self._give(call.paths[0], path, call.name)
        elif call.name in ("unlink", "rmdir"):
            self._take(path)
        elif call.name == "mkdir" and path != self._tree:
            self._unsettled.add(path)

    def end(self) -> None:
        """Hear that what was done is acknowledged: it must be on the disk for good."""
        self._require_settled(lambda name: name.endswith("/_oci/index.json"), "the end")

    def _give(self, source: str, target: str, call: str) -> None:
        is_dirty = source in self._dirty
        if not target.startswith(self._scratch):
            self.renamed += 1
            if is_dirty:
                self.faults.append(f"{call} to {target}: its bytes are not on the disk")
        if target.endswith("/_oci/index.json"):
            layout = target.removesuffix("index.json")
            self._require_settled(lambda name: self._needs(layout, name), target)
        if "/_oci/blobs/" in target:
            layout, _, blob = target.rpartition("blobs/sha256/")
            self._linked.add((layout, blob))
        self._unsettled.add(target)
        if is_dirty:
            self._dirty.add(target)
        if call == "rename":
            self._dirty.discard(source)
            self._unsettled.discard(source)

    def _needs(self, layout: str, name: str) -> bool:
        """Return True if the index of a layout relies on a name: its own blobs, those of the tree, the way to it."""
        if name.startswith(f"{self._tree}/blobs/"):
            return (layout, Path(name).name) in self._linked
        return name.startswith(f"{layout}blobs/") or layout.startswith(f"{name}/")

    def _take(self, path: str) -> None:
        """A blob may go only if the index that no longer references it has its name on the disk."""
        if path.startswith(f"{self._tree}/blobs/") or "/_oci/blobs/" in path:
            self._require_settled(lambda name: name.endswith("/_oci/index.json"), f"removing {path}")
        self._dirty.discard(path)
        self._unsettled.discard(path)
        if path.endswith("/_oci/index.json"):
            self._unsettled.add(path)

    def _require_settled(self, concerns: Callable[[str], bool], what: str) -> None:
        self.faults += [f"{what}: name {name} is not on the disk" for name in sorted(self._unsettled) if concerns(name)]
