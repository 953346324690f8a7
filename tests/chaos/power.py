"""Power cuts, by a model: the calls of a run are recorded, and replayed up to each point as a disk may have kept them.

    python -m tests.chaos --only power

The model knows what makes what durable, and nothing more than POSIX promises: fsync of a file its bytes, fsync of a
directory the names in it. All else that was done until the cut may be there or not. It is asked for the most hostile
ways: nothing of it is there; all names are there, and files that were not synced are empty; names went and others did
not come; names came and others did not go; and at random. A rename replaces a name in one step. podbridge writes every
file from its first byte, once, which the model relies on; the lock holds nothing.
"""

import contextlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.chaos import ground
from tests.chaos.crash import Crash, grounds
from tests.chaos.ground import SCENARIOS
from tests.chaos.shim import Call


@dataclass(eq=False, slots=True)
class Node:
    """A file, a link or a directory. `durable` is what a cut leaves of it: `content`, or `names` of a directory.

    Of a directory `pending` are the names that were changed since, in order, each with what it is now.
    """

    content: bytes = b""
    target: str | None = None
    is_directory: bool = False
    is_begun: bool = True
    durable: bytes | None = None
    names: dict[str, "Node"] = field(default_factory=dict)
    kept: dict[str, "Node"] = field(default_factory=dict)
    pending: list[tuple[str, "Node | None"]] = field(default_factory=list)

    def name(self, name: str, node: "Node | None") -> None:
        """Give a name to a node, or take it off."""
        if node is None:
            self.names.pop(name, None)
        else:
            self.names[name] = node
        self.pending.append((name, node))

    def sync(self) -> None:
        """Have it on the disk."""
        self.durable, self.kept, self.pending = self.content, dict(self.names), []


Choice = Callable[[str, "Node | None"], bool]
"""Says whether a change of a name, to a node or to none, reached the disk."""


class Disk:
    """A tree in the model, from the one on the disk, all of which is durable."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_inode: dict[int, Node] = {}
        self.top = Node(is_directory=True)
        if root.exists():
            self.top.name(root.name, self._read(root))
        self.top.sync()

    def _read(self, path: Path) -> Node:
        status = path.lstat()
        if status.st_ino in self._by_inode:
            return self._by_inode[status.st_ino]
        if path.is_symlink():
            node = Node(target=str(path.readlink()))
        elif path.is_dir():
            node = Node(is_directory=True)
            for item in path.iterdir():
                node.name(item.name, self._read(item))
        else:
            node = Node(path.read_bytes())
        node.sync()
        self._by_inode[status.st_ino] = node
        return node

    def apply(self, call: Call) -> None:
        """Do one call; nothing if it cannot have worked: calls are recorded before they are done."""
        with contextlib.suppress(KeyError):
            self._apply(call)

    def _apply(self, call: Call) -> None:
        parents = [self._find(PurePath(path).parent) for path in call.paths]
        names = [PurePath(path).name for path in call.paths]
        parent, name = parents[0], names[0]
        match call.name:
            case "open":
                self._open(parent, name)
            case "mkdir" if name not in parent.names:
                parent.name(name, Node(is_directory=True))
            case "symlink" if name not in parent.names:
                parent.name(name, Node(target=""))
            case "unlink" | "rmdir" if not parent.names[name].names:
                parent.name(name, None)
            case "link" if names[1] not in parents[1].names:
                parents[1].name(names[1], parent.names[name])
            case "rename":
                parents[1].name(names[1], parent.names[name])
                parent.name(name, None)
            case "fsync":
                parent.names[name].sync()

    def _open(self, parent: Node, name: str) -> None:
        if name in parent.names:
            parent.names[name].is_begun = False
        else:
            parent.name(name, Node())

    def write(self, path: str, content: bytes) -> None:
        """Add bytes to a file."""
        node = self._find(PurePath(path))
        node.content = (node.content if node.is_begun else b"") + content
        node.is_begun = True

    def point(self, path: str, target: str) -> None:
        """Say what a symbolic link points at."""
        self._find(PurePath(path)).target = target

    def _find(self, path: PurePath) -> Node:
        node = self.top
        for name in path.relative_to(self._root.parent).parts:
            node = node.names[name]
        return node

    def after_cut(self, choose: Choice) -> dict[str, tuple[int, bytes | str | None]]:
        """Return what is on the disk: of each path which node, and its bytes, its target, or None of a directory."""
        found: dict[str, tuple[int, bytes | str | None]] = {}
        self._collect(self.top, "", choose, found)
        return found

    def _collect(self, node: Node, place: str, choose: Choice, into: dict[str, tuple[int, bytes | str | None]]) -> None:
        names = dict(node.kept)
        for name, item in node.pending:
            if not choose(f"{place}/{name}", item):
                continue
            if item is None:
                names.pop(name, None)
            else:
                names[name] = item
        for name, item in sorted(names.items()):
            path = f"{place}/{name}"
            into[path] = (
                id(item),
                None if item.is_directory else item.target if item.target is not None else item.durable or b"",
            )
            if item.is_directory:
                self._collect(item, path, choose, into)


def lay(found: dict[str, tuple[int, bytes | str | None]], directory: Path) -> None:
    """Make on the disk what a cut has left."""
    places: dict[int, Path] = {}
    shutil.rmtree(directory / "t", ignore_errors=True)
    for name, (node, content) in found.items():
        path = directory / name[1:]
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        elif node in places:
            os.link(places[node], path)
        else:
            path.write_bytes(content)
            path.chmod(0o644)
            places[node] = path


def ways(seed: int, rounds: int) -> Iterator[tuple[str, Choice]]:
    """Yield the ways in which names reach the disk, or do not."""
    yield "nothing", lambda _path, _node: False
    yield "all names", lambda _path, _node: True
    yield "removals", lambda _path, node: node is None
    yield "additions", lambda _path, node: node is not None
    for number in range(rounds):
        dice = random.Random(seed + number)
        yield f"at random {seed + number}", lambda _path, _node, dice=dice: dice.random() < 0.5  # type: ignore[misc]


@dataclass(slots=True)
class Cut:
    """All power cuts of one scenario."""

    crash: Crash
    seed: int
    rounds: int
    every: int = 1
    seen: set[int] = field(default_factory=set)

    def all(self) -> None:
        """Cut the power after each call."""
        _, undisturbed = self.crash.prepare()
        self.crash.fresh()
        self.crash.at.shim.clear()
        disk = Disk(self.crash.at.tree)
        outcome = self.crash.at.run(self.crash.scenario.words)
        assert outcome.status == 0, outcome.results
        results: list[bool] = []
        calls = list(self.crash.at.shim.calls())
        links = _links(self.crash.at.tree)
        for number, call in enumerate(calls):
            if call.name == "done":
                results.append(call.paths[1] == "True")
            elif call.name == "bytes":
                disk.write(calls[number - 1].paths[0], bytes.fromhex(call.paths[0] if call.paths else ""))
            else:
                disk.apply(call)
                _aim(disk, call, links)
            if number % self.every == 0:
                self._try(disk, number, results, undisturbed)

    def _try(self, disk: Disk, number: int, results: list[bool], undisturbed: dict[str, str]) -> None:
        for way, choose in ways(self.seed, self.rounds):
            found = disk.after_cut(choose)
            state = hash((len(results), tuple((name, content) for name, (_, content) in found.items())))
            if state in self.seen:
                continue
            self.seen.add(state)
            lay(found, self.crash.at.directory)
            try:
                self._judge(results, undisturbed)
            except BaseException as error:
                error.add_note(f"scenario {self.crash.name}, power cut after call {number}, on the disk: {way}")
                raise
            self.crash.counts[f"power cuts, {way.rstrip('0123456789 ')}"] += 1

    def _judge(self, results: list[bool], undisturbed: dict[str, str]) -> None:
        scenario, tree = self.crash.scenario, self.crash.at.tree
        ground.check(tree, scenario, scenario.allowed(results, is_cut=True))
        ground.check_mended(tree, scenario, undisturbed)


def _links(root: Path) -> dict[str, str]:
    """Return the symbolic links of the tree as it is in the end, which tells what those that were made point at."""
    return {path.name: str(path.readlink()) for path in root.rglob("*") if path.is_symlink()}


def _aim(disk: Disk, call: Call, links: dict[str, str]) -> None:
    if call.name == "symlink":
        name = PurePath(call.paths[0]).name.partition("-")[2]
        disk.point(call.paths[0], links.get(name, "gone"))


def run(seed: int, *, rounds: int, every: int = 1, names: tuple[str, ...] = tuple(SCENARIOS)) -> Counter[str]:
    """Cut the power at every point, or one of `every`, each in all hostile ways and so many at random."""
    counts: Counter[str] = Counter()
    with grounds(data=True) as at:
        for name in names:
            Cut(Crash(name, at, counts), seed, rounds, every).all()
    return counts
