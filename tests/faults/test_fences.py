"""One repository's, one blob's, one client's failure is its own: everything beside it is done, and it is told once."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.entrance import Entrance, Guest
from bridge.errors import BridgeError
from bridge.fence import Fence
from bridge.oci import Digest, Reference
from bridge.places import Places
from bridge.tree import disk
from bridge.tree.contents import shown
from bridge.tree.encodings import encode
from bridge.tree.publisher import Tree
from tests.chaos import ground
from tests.chaos.shim import Shim
from tests.double.gates import eventually
from tests.tree import making

HERE = Path(__file__).parents[2]
LINE = b"the same line again and again, as text has it\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of three repositories, in each of which something was superseded and may go."""
    ground.make(tmp_path / "t", {f"{name}:1": f"{name} old" for name in ("a", "b", "c")})
    with Tree(tmp_path / "t") as tree:
        for name in ("a", "b", "c"):
            ground.publish(tree, f"{name}:1", f"{name} new")
    return tmp_path / "t"


def drive(root: Path, shim: Shim, *words: str) -> list[str]:
    """Do things to the tree over the shim; return what came of each, and what is shown in memory after."""
    command = [sys.executable, "-m", "tests.chaos.drive", str(root), *words]
    done = subprocess.run(
        command, env=os.environ | shim.environment, cwd=HERE, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def links(root: Path, name: str) -> int:
    """Return how many blobs a repository has."""
    return len(list((root / f"repositories/{name}/_oci/blobs/sha256").iterdir()))


def blobs(root: Path) -> set[str]:
    """Return the names of all blobs."""
    return {path.name for path in (root / "blobs/sha256").iterdir()}


UNREADABLE = ["*/repositories/b", "*/repositories/b/_oci/blobs", "*/b/_oci/blobs/sha256", "*/b/_oci/index.json"]


@pytest.mark.parametrize("glob", UNREADABLE)
def test_a_repository_that_cannot_be_read_keeps_a_sweep_from_no_other_and_all_blobs_stay(
    root: Path, tmp_path: Path, glob: str
) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    before, all_blobs = {name: links(root, name) for name in "abc"}, blobs(root)
    program = (  # the start reads all of it, too: from there on it fails
        "from pathlib import Path; from bridge.tree.publisher import Tree; from bridge.errors import BridgeError\n"
        f"tree = Tree(Path({str(root)!r})).__enter__()\n"
        f"rules = Path({str(tmp_path / 'chaos-rules')!r})\n"
        f"rules.with_suffix('.new').write_text('open-read {glob} 1 0 EIO\\n')\n"
        "rules.with_suffix('.new').rename(rules)\n"
        "try:\n    tree.sweep(-1)\nexcept (BridgeError, OSError) as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | shim.environment, cwd=HERE, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "repositories/b" in done.stdout
    assert {name: links(root, name) < before[name] for name in "abc"} == {"a": True, "b": False, "c": True}
    assert blobs(root) == all_blobs, "what b references is not known"
    with Tree(root) as tree:
        tree.sweep(-1)
    assert links(root, "b") < before["b"]
    assert len(blobs(root)) < len(all_blobs)
    assert set(ground.served(root)) == {"a:1", "b:1", "c:1"}


@pytest.mark.parametrize("error", [ZeroDivisionError(), RecursionError(), OSError(5, "Input/output error")], ids=repr)
def test_whatever_fails_of_one_repository_is_its_own_and_deletes_nothing_that_it_may_need(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """No disk makes an error that no code foresaw: it is put where a repository's links are listed."""
    right = disk.names

    def names(directory: Path | str) -> Iterator[str]:
        if str(directory).endswith("/repositories/b/_oci/blobs"):
            raise error
        return right(directory)

    before, all_blobs = links(root, "b"), blobs(root)
    with Tree(root) as tree:
        monkeypatch.setattr(disk, "names", names)
        for _ in range(3):
            with pytest.raises(BridgeError, match="repository b"):
                tree.sweep(-1)
        monkeypatch.undo()
        assert (links(root, "b"), blobs(root)) == (before, all_blobs)
        assert links(root, "a") < before
        told = [record for record in caplog.records if record.exc_info]
        assert len(told) == (0 if isinstance(error, OSError) else 1)
        tree.sweep(-1)
    assert links(root, "b") < before


def test_a_repository_that_cannot_be_written_keeps_no_other_from_being_published(root: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("symlink", "*/repositories/b/*", "EIO", times=0)
    shim.fail("rename", "*/repositories/b/_tags.json", "EIO", times=0)
    broken, other, again, *_ = drive(root, shim, "publish:b:2=two", "publish:a:2=two", "publish:c:2=two")
    assert "Input/output error" in broken
    assert (other, again) == ("ok", "ok")
    assert {"a:2", "c:2"} <= {str(one) for one in shown(root).publications}


def test_a_blob_that_cannot_be_removed_keeps_no_other(root: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    kept = Digest.of(b"b old").hex
    before = blobs(root)
    assert kept in before
    shim.fail("unlink", f"*/t/blobs/sha256/{kept}", "EIO", times=0)
    said, *_ = drive(root, shim, "sweep:-1")
    assert "Input/output error" in said
    gone = before - blobs(root)
    assert kept not in gone
    assert Digest.of(b"a old").hex in gone
    assert Digest.of(b"c old").hex in gone


def test_a_blob_that_the_disk_cannot_read_keeps_no_other_from_being_encoded(tmp_path: Path) -> None:
    layers = [b"%d" % number + LINE * 4000 for number in range(3)]
    root = tmp_path / "t"
    with Tree(root) as tree:
        for number, layer in enumerate(layers):
            tree.publish(making.publication(f"app:{number}", making.image(tree, layer, note=str(number))))
    broken = Digest.of(layers[1]).hex
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", f"*/{broken}", "EIO", times=0)
    command = [sys.executable, "-m", "bridge.tree.encoder", str(root), str(10**9)]
    done = subprocess.run(
        command, env=os.environ | shim.environment, cwd=HERE, capture_output=True, text=True, check=False
    )
    made = {path.name for path in (root / "encoded/gzip").iterdir()}
    assert made == {Digest.of(layer).hex for layer in (layers[0], layers[2])}
    assert done.returncode == 1
    assert f"blob sha256:{broken} is not encoded: it cannot be read: Input/output error" in done.stderr
    assert "Traceback" not in done.stderr
    assert encode(root, 10**9).made == 1, "a later pass makes it"


def test_a_repository_that_the_disk_cannot_list_keeps_no_other_from_being_encoded(tmp_path: Path) -> None:
    root = tmp_path / "t"
    layers = {name: name.encode() + LINE * 4000 for name in "abc"}
    with Tree(root) as tree:
        for name, layer in layers.items():
            tree.publish(making.publication(f"{name}:1", making.image(tree, layer, note=name)))
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", "*/b/_oci/blobs/sha256", "EIO", times=0)
    command = [sys.executable, "-m", "bridge.tree.encoder", str(root), str(10**9)]
    done = subprocess.run(
        command, env=os.environ | shim.environment, cwd=HERE, capture_output=True, text=True, check=False
    )
    assert {path.name for path in (root / "encoded/gzip").iterdir()} == {Digest.of(layers[name]).hex for name in "ac"}
    assert done.returncode == 1
    assert "repositories/b/_oci/blobs/sha256 cannot be read" in done.stderr


async def test_a_client_whose_service_fails_unexpectedly_is_dropped_alone_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = 0

    async def serve(guest: Guest) -> None:
        nonlocal served
        received = await asyncio.get_running_loop().sock_recv(guest.socket, 1)
        if received == b"x":
            raise ZeroDivisionError
        served += 1

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    entrance = Entrance(listener, "test", Places(8, "connections"), b"full")
    async with entrance.open(serve):
        for content in (b"x", b"y") * 20:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(content)
            assert await reader.read() == b""
            writer.close()
        await eventually(lambda: not entrance.connections)
    assert served == 20
    (told,) = [record for record in caplog.records if record.exc_info]
    assert "a client of socket test" in told.getMessage()


def test_what_fails_apart_is_handed_over_and_the_rest_goes_on() -> None:
    failures: list[BridgeError | OSError] = []
    fence, done = Fence(), []
    errors: list[Callable[[], None]] = [lambda: None, lambda: _raise(OSError(5, "EIO")), lambda: _raise(KeyError("x"))]
    for number, act in enumerate(errors):
        with fence.apart(f"thing {number}", failures):
            act()
            done.append(number)
    assert done == [0]
    assert [type(error).__name__ for error in failures] == ["OSError", "UnforeseenError"]


def _raise(error: Exception) -> None:
    raise error


def test_a_start_goes_on_past_a_repository_that_the_disk_cannot_list(root: Path, tmp_path: Path) -> None:
    shim = Shim(tmp_path, f"{root}/*")
    shim.fail("open-read", "*/repositories/b/_references", "EIO", times=0)
    shim.fail("open", "*/repositories/b/*", "EIO", times=0)
    said, *_ = drive(root, shim, "withdraw:a:1")
    assert said == "ok"
    assert Reference.parse("a:1") not in shown(root).publications
