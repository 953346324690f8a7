"""Encodings on the disk: made, bounded, dropped, swept; never anything but the blob."""

import gzip
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.oci import Digest, Reference
from bridge.tree import encodings
from bridge.tree.encodings import Encoded, encode
from bridge.tree.publisher import Tree
from bridge.tree.verify import verify
from tests.end_to_end.programs import eventually
from tests.tree import making

PLENTY = 10**9
AT_USUAL_PRIORITY = (
    "from bridge.tree import encoder as e; e.yield_to_everybody = lambda: None; raise SystemExit(e.main())"
)
KILOBYTE = b"the same line again and again, as text has it\n" * 22


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(tmp_path / "tree") as tree:
        yield tree


def text(kilobytes: int, seed: int) -> bytes:
    """Return bytes that shrink, different for each seed."""
    return b"".join(b"%d %d %s" % (seed, number, KILOBYTE) for number in range(kilobytes))


def noise(kilobytes: int) -> bytes:
    """Return bytes that do not shrink."""
    return random.Random(kilobytes).randbytes(kilobytes * 1024)


def publish(tree: Tree, reference: str, *layers: bytes) -> list[str]:
    """Publish an image of these layers, and return their blobs' names, a second newer than all before."""
    tree.publish(making.publication(reference, making.image(tree, *layers, note=reference)))
    names = [Digest.of(layer).hex for layer in layers]
    newest = max(path.stat().st_mtime for path in tree.paths.blobs.iterdir())
    for name in names:
        os.utime(tree.paths.blobs / name, (newest + 1, newest + 1))
    return names


def encoded(tree: Tree) -> set[str]:
    return {path.name for path in tree.paths.encodings.glob("*")}


def test_an_encoding_decompresses_to_its_blob(tree: Tree) -> None:
    layer = text(3000, 1)
    (name,) = publish(tree, "app:1", layer)
    made = encode(tree.paths.root, PLENTY)
    content = (tree.paths.encodings / name).read_bytes()
    assert gzip.decompress(content) == layer
    assert made == Encoded(1, len(layer), len(content))
    assert (tree.paths.encodings / name).stat().st_mode & 0o777 == 0o644


def test_a_second_pass_finds_nothing_to_do(tree: Tree) -> None:
    publish(tree, "app:1", text(100, 1), noise(100))
    assert encode(tree.paths.root, PLENTY).made == 1
    assert encode(tree.paths.root, PLENTY) == Encoded()


def test_what_does_not_shrink_is_marked_and_left_also_after_a_restart(tree: Tree) -> None:
    (name,) = publish(tree, "app:1", noise(300))
    encode(tree.paths.root, PLENTY)
    mark = tree.paths.unencodable / name
    assert mark.stat().st_size == 0
    before = mark.stat().st_mtime_ns
    encode(tree.paths.root, PLENTY)
    assert mark.stat().st_mtime_ns == before
    assert encoded(tree) == set()


def test_small_and_unpublished_blobs_have_no_encoding(tree: Tree) -> None:
    publish(tree, "app:1", text(60, 1)[: encodings.SMALLEST])
    making.put(tree, text(200, 2), "application/octet-stream")
    assert encode(tree.paths.root, PLENTY) == Encoded()


def test_everything_may_be_removed_and_is_made_again(tree: Tree) -> None:
    names = publish(tree, "app:1", text(100, 1), text(100, 2))
    encode(tree.paths.root, PLENTY)
    shutil.rmtree(tree.paths.encoded)
    encode(tree.paths.root, PLENTY)
    assert encoded(tree) == set(names)


def test_the_newest_blobs_get_the_space_and_the_result_is_stable(tree: Tree) -> None:
    shrinking = [text(400, seed) + noise(100 + seed) for seed in range(6)]
    names = [publish(tree, f"app:{number}", layer)[0] for number, layer in enumerate(shrinking)]
    encode(tree.paths.root, PLENTY)
    size = (tree.paths.encodings / names[0]).stat().st_size
    space = int(500 * 1024 * 0.9) + 2 * size
    encode(tree.paths.root, space)
    kept = encoded(tree)
    assert names[-1] in kept
    assert names[0] not in kept
    assert sum(path.stat().st_size for path in tree.paths.encodings.iterdir()) <= space
    assert encode(tree.paths.root, space) == Encoded()
    assert encoded(tree) == kept


def test_a_new_blob_takes_the_place_of_the_oldest(tree: Tree) -> None:
    (old,) = publish(tree, "app:1", text(100, 1) + noise(100))
    space = 200 * 1024
    encode(tree.paths.root, space)
    assert encoded(tree) == {old}
    (new,) = publish(tree, "app:2", text(100, 2) + noise(101))
    encode(tree.paths.root, space)
    assert encoded(tree) == {new}
    assert encode(tree.paths.root, space) == Encoded()


def test_no_space_means_no_encodings(tree: Tree) -> None:
    publish(tree, "app:1", text(100, 1))
    encode(tree.paths.root, PLENTY)
    encode(tree.paths.root, 0)
    assert encoded(tree) == set()


def test_a_damaged_blob_is_not_encoded_and_the_others_are(tree: Tree) -> None:
    damaged, sound = publish(tree, "app:1", text(100, 1), text(100, 2))
    path = tree.paths.blobs / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = encode(tree.paths.root, PLENTY)
    assert encoded(tree) == {sound}
    assert len(done.faults) == 1
    assert damaged in done.faults[0]


def test_what_a_killed_pass_left_is_removed_and_never_shown(tree: Tree) -> None:
    (name,) = publish(tree, "app:1", text(100, 1))
    tree.paths.encoding_staging.mkdir(parents=True)
    (tree.paths.encoding_staging / "half").write_bytes(b"half")
    encode(tree.paths.root, PLENTY)
    assert list(tree.paths.encoding_staging.iterdir()) == []
    assert encoded(tree) == {name}


def test_a_sweep_takes_encodings_and_marks_with_their_blobs(tree: Tree) -> None:
    name, marked = publish(tree, "app:1", text(100, 1), noise(100))
    publish(tree, "other:1", text(100, 3))
    encode(tree.paths.root, PLENTY)
    size = (tree.paths.encodings / name).stat().st_size
    tree.withdraw(Reference.parse("app:1"))
    foreseen = tree.sweep(-10, dry_run=True)
    assert name in encoded(tree)
    assert tree.sweep(-10) == foreseen
    assert foreseen.freed > size + len(noise(100)) + len(text(100, 1))
    assert name not in encoded(tree)
    assert len(encoded(tree)) == 1
    assert not (tree.paths.unencodable / marked).exists()


def test_an_encoding_that_was_finished_after_its_blob_went_is_removed_by_the_next_pass(tree: Tree) -> None:
    publish(tree, "app:1", text(100, 1))
    encode(tree.paths.root, PLENTY)
    orphan = tree.paths.encodings / ("0" * 64)
    orphan.write_bytes(b"late")
    encode(tree.paths.root, PLENTY)
    assert not orphan.exists()


def test_two_passes_do_not_overlap(tree: Tree) -> None:
    publish(tree, "app:1", text(100, 1))
    tree.paths.encoded.mkdir()
    with encodings._alone(tree.paths.encoded) as alone:
        assert alone
        assert encode(tree.paths.root, PLENTY) == Encoded()
        assert encoded(tree) == set()
    assert encode(tree.paths.root, PLENTY).made == 1


@pytest.mark.parametrize("spoil", [lambda content: content[:-9], lambda content: content + b"x", lambda _: b"no gzip"])
def test_verify_finds_an_encoding_that_is_not_its_blob(tree: Tree, spoil: Callable[[bytes], bytes]) -> None:
    (name,) = publish(tree, "app:1", text(100, 1))
    encode(tree.paths.root, PLENTY)
    assert list(verify(tree.paths.root)) == []
    path = tree.paths.encodings / name
    path.write_bytes(spoil(path.read_bytes()))
    (fault,) = map(str, verify(tree.paths.root))
    assert f"gzip/{name}" in fault


def test_an_encoding_of_other_bytes_is_found(tree: Tree) -> None:
    (name,) = publish(tree, "app:1", text(100, 1))
    encode(tree.paths.root, PLENTY)
    (tree.paths.encodings / name).write_bytes(zlib.compress(b"other", wbits=31))
    assert len(list(verify(tree.paths.root))) == 1


def test_a_pass_that_is_killed_leaves_whole_encodings_and_the_next_one_finishes(tree: Tree) -> None:
    names = publish(tree, "app:1", *(text(4000, seed) for seed in range(8)))
    command = [sys.executable, "-c", AT_USUAL_PRIORITY, str(tree.paths.root), str(PLENTY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        eventually(lambda: len(encoded(tree)) >= 2 or process.poll() is not None)
        process.kill()
    assert all(encodings.is_whole(tree.paths.encodings / name) for name in encoded(tree))
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert encoded(tree) == set(names)
    assert list(verify(tree.paths.root)) == []


def test_the_program_runs_at_idle_priority(tree: Tree) -> None:
    code = "import os; from bridge.tree.encoder import yield_to_everybody as y; y(); print(os.sched_getscheduler(0))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) == os.SCHED_IDLE
