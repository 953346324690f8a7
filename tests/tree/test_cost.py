"""What a start and a sweep ask of the file system grows with the number of publications, and no faster."""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.tree.publisher import Tree
from tests.tree import making

_EVENTS = (
    "open",
    "os.listdir",
    "os.scandir",
    "os.rename",
    "os.remove",
    "os.link",
    "os.mkdir",
    "os.chmod",
    "os.symlink",
)
_WRITES = _EVENTS[3:]

_heard: list[Counter[str]] = []


def _hear(event: str, _: tuple[Any, ...]) -> None:
    if _heard and event in _EVENTS:
        _heard[-1][event] += 1


@functools.cache
def _listen() -> None:
    """Have Python tell, once: a hook cannot be taken out."""
    sys.addaudithook(_hear)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the operations on files that Python's own auditing tells of."""
    _listen()
    _heard.append(Counter())
    try:
        yield _heard[-1]
    finally:
        _heard.pop()


def grow(root: Path, numbers: range) -> None:
    with Tree(root) as tree:
        for number in numbers:
            tree.publish(making.publication(f"team/app{number}:1", making.image(tree, b"base", note=str(number))))


def cost(root: Path) -> dict[str, Counter[str]]:
    """Count a start, a first sweep and a later one, with nothing to do."""
    found: dict[str, Counter[str]] = {}

    def count(name: str, work: Callable[[], object]) -> None:
        with counted() as found[name]:
            work()

    tree = Tree(root)
    count("start", tree.__enter__)
    try:
        count("first", lambda: tree.sweep(3600))
        count("later", lambda: tree.sweep(3600))
    finally:
        tree.__exit__()
    return found


MOST = {"start": 9, "first": 6, "later": 5}
"""Operations for each publication, at the most."""


def test_a_start_and_a_sweep_cost_a_few_operations_for_each_publication_and_write_nothing(tmp_path: Path) -> None:
    root, sizes, costs = tmp_path / "t", (20, 200), []
    for before, size in zip((0, sizes[0]), sizes, strict=True):
        grow(root, range(before, size))
        costs.append(cost(root))
    for name, most in MOST.items():
        few, many = (one[name] for one in costs)
        each = (many.total() - few.total()) / (sizes[1] - sizes[0])
        assert each <= most, f"{name}: {each} operations for each publication: {many}"
        assert all(few[write] == many[write] for write in _WRITES), f"{name}: {few} and then {many}"
