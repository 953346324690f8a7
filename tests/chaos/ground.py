"""Small trees to break, what is asked of one that was broken, and what makes it right again: a pass without podman.

A tree is described by what its references show: each shows an image that is made of one word.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import DamagedError, NotPublishedError
from bridge.oci import Descriptor, Digest, Manifest, Reference, Repository
from bridge.service import healing
from bridge.tree import encodings, scrubbing
from bridge.tree.contents import repositories
from bridge.tree.paths import TreePaths
from bridge.tree.publisher import Tree
from bridge.tree.reader import TreeReader
from bridge.tree.verify import repair, verify
from tests.end_to_end.programs import scratch
from tests.tree import making

SPACE = 1 << 24
"""Bytes that encodings may take."""

PLACE = "PODBRIDGE_CHAOS_PLACE"
"""Where directories are made for all that is tried; without it in memory, and for sockets in /tmp."""

Shows = dict[str, str]
"""What each reference shows: the word that its image is made of."""


@contextlib.contextmanager
def place(usual: str = "/dev/shm") -> Iterator[Path]:
    """Give a directory; end what runs on it after, unmount, and remove it, also when the block is interrupted."""
    with scratch(Path(os.environ.get(PLACE) or usual)) as directory:
        yield directory


def publish(tree: Tree, reference: str, word: str) -> None:
    """Show an image that is made of a word; one that begins with `long` has a layer that shrinks."""
    layer = word.encode() * 20_000 if word.startswith("long") else word.encode()
    tree.publish(making.publication(reference, making.image(tree, b"base", layer, note=word)))


def make(root: Path, wanted: Shows) -> None:
    """Make a tree that shows this."""
    with Tree(root) as tree:
        for reference, word in wanted.items():
            publish(tree, reference, word)


def copy(source: Path, target: Path) -> None:
    """Copy a tree with its hard links."""
    seen: dict[int, Path] = {}
    shutil.rmtree(target, ignore_errors=True)
    for directory, below, names in os.walk(source):
        place = target / Path(directory).relative_to(source)
        place.mkdir()
        for path in (Path(directory) / name for name in (*names, *below)):
            if path.is_symlink() or not path.is_dir():
                _copy_file(path, place / path.name, seen)


def _copy_file(source: Path, target: Path, seen: dict[int, Path]) -> None:
    status = source.lstat()
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif status.st_ino in seen:
        target.hardlink_to(seen[status.st_ino])
    else:
        shutil.copy2(source, target)
        seen[status.st_ino] = target


def served(root: Path, damaged: Collection[str] = ()) -> Shows:
    """Return what a registry over the tree serves; raise AssertionError for a byte that is wrong or missing.

    What is damaged must not be served: it counts as not there.
    """
    reader, found = TreeReader(root), {}
    for name in {*reader.repositories(), *(item.name for item in repositories(TreePaths(root)))}:
        repository = Repository(name)
        try:
            view = reader.view(repository)
        except NotPublishedError:
            continue
        for digest, descriptor in view.manifests.items():
            tags = [f"{name}:{tag}" for tag, item in view.tags.items() if item.digest == digest]
            try:
                word = _word(reader, repository, descriptor)
            except (DamagedError, NotPublishedError, AssertionError):
                if tags and set(tags) <= set(damaged):
                    continue
                raise
            found.update(dict.fromkeys(tags, word))
    return found


def _word(reader: TreeReader, repository: Repository, descriptor: Descriptor) -> str:
    content = reader.read(repository, descriptor.digest)
    assert descriptor.digest.matches(content), f"manifest {descriptor.digest} of {repository}"
    word = ""
    for item in Manifest.parse(content).references:
        blob = reader.blob(repository, item.digest)
        if not isinstance(blob, bytes):
            with blob:
                blob = blob.read()
        assert item.digest.matches(blob), f"blob {item.digest} of {repository}"
        encoded = reader.encoding(item.digest)
        if encoded is not None:
            encoded.close()
            assert encodings.is_whole(TreePaths(reader._paths.root).encodings / item.digest.hex)
        if blob.startswith(b'{"note"'):
            word = json.loads(blob)["note"]
    return word


def converge(root: Path, wanted: Shows) -> None:
    """Do what a start and a pass of the service do, until the tree shows what is wanted and nothing else."""
    with Tree(root) as tree:
        have = served(root, damaged=wanted)
        for reference, word in wanted.items():
            if have.get(reference) != word:
                publish(tree, reference, word)
        for shown in set(tree.shown.publications) - {Reference.parse(item) for item in wanted}:
            tree.withdraw(shown)
        for held in tree.shown.held:
            tree.release(held)
        tree.sweep(-1)
        encodings.encode(root, SPACE)
        healing.load(tree.paths)


def picture(root: Path) -> dict[str, str]:
    """Return everything that lies in a tree, with what it holds; times count as nothing."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "directory"
        elif name not in ("lock", "scrub/state.json"):
            found[name] = f"{path.stat().st_mode & 0o777:o} {path.stat().st_nlink} {_content(path)}"
    return found


def _content(path: Path) -> str:
    if path.name != "index.json":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    entries = json.loads(path.read_bytes())["manifests"]
    for entry in entries:
        entry["annotations"].pop("io.podbridge.published")
    return json.dumps(sorted(entries, key=str))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that is done to a tree: how that is made, in which words for `acts`, and what shows after each.

    `damaged` are references that the tree may lose meanwhile, since it has lost their bytes before.
    """

    before: Shows
    words: tuple[str, ...]
    prepare: Callable[[Path], None] = lambda _root: None
    damaged: frozenset[str] = field(default_factory=frozenset)

    def build(self, root: Path) -> None:
        """Make the tree."""
        if self.before:
            make(root, self.before)
            self.prepare(root)

    @property
    def after(self) -> Shows:
        """What is shown in the end."""
        return self.states()[-1]

    def states(self) -> list[Shows]:
        """Return what is shown before all words, and after each."""
        states = [dict(self.before)]
        for word in self.words:
            states.append(_after(word, states[-1]))
        return states

    def allowed(self, results: list[bool], *, is_cut: bool) -> dict[str, set[str | None]]:
        """Return what each reference may show when so many words have worked (True) or failed.

        With `is_cut` one more may be done or not.
        """
        states = self.states()
        allowed: dict[str, set[str | None]] = {}
        for reference in {name for state in states for name in state}:
            values: set[str | None] = {states[0].get(reference)}
            for number, worked in enumerate(results):
                is_changed = states[number].get(reference) != states[number + 1].get(reference)
                if is_changed:
                    values = (set() if worked else values) | {states[number + 1].get(reference)}
            if is_cut and len(results) < len(self.words):
                values |= {states[len(results) + 1].get(reference)}
            allowed[reference] = values | ({None} if reference in self.damaged else set())
        return allowed


def _after(word: str, state: Shows) -> Shows:
    verb, _, rest = word.partition(":")
    if verb == "publish":
        reference, _, content = rest.partition("=")
        return state | {reference: content}
    if verb in ("withdraw", "hold"):
        return {name: item for name, item in state.items() if name != rest}
    return state


def check(root: Path, scenario: Scenario, allowed: Mapping[str, set[str | None]]) -> None:
    """Ask of a broken tree what always holds: what is served is whole, and what was acknowledged is served."""
    if not TreePaths(root).version.exists():
        assert not scenario.before, "the tree has lost its version"
        return
    found = served(root, scenario.damaged)
    for reference, values in allowed.items():
        assert found.get(reference) in values, f"{reference} shows {found.get(reference)}, not one of {values}"
    assert set(found) <= set(allowed)


def check_mended(root: Path, scenario: Scenario, undisturbed: dict[str, str]) -> None:
    """Ask of a tree that a pass has mended: it is the one of an undisturbed run, and verify finds nothing."""
    converge(root, scenario.after)
    assert [str(fault) for fault in verify(root)] == []
    assert served(root) == scenario.after
    now = picture(root)
    different = {name for name in now.keys() | undisturbed.keys() if now.get(name) != undisturbed.get(name)}
    assert not different, {name: (undisturbed.get(name), now.get(name)) for name in different}


def do(root: Path, word: str) -> None:
    """Do one thing to a tree that no publisher has."""
    match word:
        case "encode":
            encodings.encode(root, SPACE)
        case "repair":
            repair(root, list(verify(root)))
        case "scrub":
            scrub(root)
        case _:
            msg = f"no such word: {word}"
            raise ValueError(msg)


def scrub(root: Path) -> None:
    """Read all blobs again as the service does, take out what is damaged, and remember how far it was."""
    paths = TreePaths(root)
    state = healing.load(paths)
    done = scrubbing.scrub(root, "", scrubbing.Limit(60, 1 << 30))
    with Tree(root) as tree:
        tree.discard(Digest.parse(f"sha256:{name}") for name in done.damaged)
    healing.save(paths, state)


def _damage(root: Path) -> None:
    """Flip a byte of a layer that two images have, and lose one that is in a single image."""
    for word in (b"base", b"one"):
        name = Digest.of(word).hex
        for place in root.rglob(name):
            if word == b"one":
                place.unlink()
            else:
                place.write_bytes(b"bad!")


def _copy_without_links(root: Path) -> None:
    kept = root.with_name("copied")
    shutil.copytree(root, kept, symlinks=True)
    shutil.rmtree(root)
    kept.rename(root)


def _supersede(root: Path) -> None:
    with Tree(root) as tree:
        publish(tree, "app:2", "newer")
        tree.withdraw(Reference.parse("deep/er/app:1"))
        publish(tree, "deep/er/app:1", "three")
        making.image(tree, b"nothing references this", note="lost")


def _leave(root: Path) -> None:
    """Leave what a killed publisher leaves: staging, views that are behind, a repository without an index."""
    (root / "staging/abc/blobs").mkdir(parents=True)
    (root / "staging/abc/blobs/part").write_bytes(b"half")
    (root / "repositories/app/_tags.json").unlink()
    (root / "repositories/_catalog.json").write_bytes(b"")
    (root / "repositories/gone/_oci/blobs/sha256").mkdir(parents=True)
    os.link(
        root / "blobs/sha256" / Digest.of(b"one").hex,
        root / "repositories/gone/_oci/blobs/sha256" / Digest.of(b"one").hex,
    )
    (root / "repositories/app/_oci/blobs/sha256" / Digest.of(b"base").hex).unlink()


BASE = {"app:1": "one", "app:2": "two", "deep/er/app:1": "three"}
REST = ("sweep:3600", "derive")
"""What every service does after a failure."""

SCENARIOS = {
    "create": Scenario({}, ("publish:app:1=one", *REST)),
    "publish": Scenario(BASE, ("publish:app:3=new", "publish:fresh/app:1=new", *REST)),
    "move": Scenario(BASE, ("publish:app:1=new", "publish:deep/er/app:1=two", *REST)),
    "withdraw": Scenario(BASE, ("withdraw:app:1", "withdraw:deep/er/app:1", *REST)),
    "hold": Scenario(BASE, ("hold:app:1", "hold:deep/er/app:1", "release:app:1", *REST)),
    "sweep": Scenario(BASE | {"app:2": "newer"}, ("sweep:-1", *REST), _supersede),
    "leave": Scenario(BASE, ("withdraw:app:1", "withdraw:app:2", "sweep:-1", *REST)),
    "encode": Scenario(BASE | {"app:1": "long one", "b:1": "long two"}, ("encode", "withdraw:b:1", "sweep:-1", *REST)),
    "start": Scenario(BASE, REST, _leave, frozenset({"app:1", "app:2"})),
    "relink": Scenario(BASE, ("repair", *REST), _copy_without_links),
    "repair": Scenario(BASE, ("repair", *REST), _damage, frozenset(BASE)),
    "scrub": Scenario(BASE, ("scrub", *REST), _damage, frozenset(BASE)),
}


def acknowledged(results: list[str]) -> list[bool]:
    """Return which words have worked."""
    return [result == "ok" for result in results]
