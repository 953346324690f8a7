"""A hook is run as it is promised, and nothing of it is left behind."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bridge.hooks.document import Document, ImageDocument
from bridge.hooks.finding import Hook, Stage, find
from bridge.hooks.running import Outcome, run
from tests.double.gates import eventually
from tests.hooks.shelf import Shelf

STAGE = Stage.PRE_PUBLISH
LABELS = {"b": "two\nlines", "a": "1"}
IMAGE = ImageDocument(id="1" * 64, names=("localhost/app:1", "localhost/app:2"), labels=LABELS, os="li\0nux")


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """A directory for hooks."""
    with TemporaryDirectory() as root:
        yield Shelf(Path(root))


async def called(shelf: Shelf, limit: float = 20, **more: Any) -> Outcome:
    """Run the one hook."""
    outcome = await run(only(shelf), document(**more), limit)
    assert outcome is not None
    return outcome


def document(**more: Any) -> Document:
    fixed: dict[str, Any] = {"repository": "app", "tag": "1", "size": 7, "trigger": "event", "attempt": 1}
    return Document(stage=STAGE, reference="app:1", image=IMAGE, **fixed, **more)


def only(shelf: Shelf) -> Hook:
    (hook,) = find(STAGE, [shelf.directory])
    return hook


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
        return False


async def ends(pid: str) -> None:
    await eventually(lambda: not alive(pid), what=f"process {pid} has ended")


async def test_arguments_document_variables_directory_and_a_clean_environment(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of podbridge")
    monkeypatch.setenv("NOTIFY_SOCKET", "/none")
    path = shelf.record(STAGE)
    (shelf.directory / "10-record.conf").write_text("URL=http://x/\nPODBRIDGE_TAG=wrong\n")
    assert (await called(shelf, previous_digest="sha256:2")).code == 0
    (heard,) = shelf.heard()
    assert heard["argv"] == [str(path), "pre-publish", "app:1"]
    assert heard["cwd"] == "/"
    told = heard["document"]
    assert (told["hookApi"], told["previousDigest"], told["digest"]) == (1, "sha256:2", None)
    assert told["image"]["labels"] == LABELS
    variables = heard["environment"]
    assert not {"SECRET", "NOTIFY_SOCKET"} & variables.keys()
    assert (variables["URL"], variables["PODBRIDGE_TAG"], variables["PODBRIDGE_DIGEST"]) == ("http://x/", "1", "")
    assert variables["PODBRIDGE_LABELS"] == "a=1\nb=two lines"
    assert variables["PODBRIDGE_OS"] == "linux", "a NUL in a config is no reason to fail"


async def test_one_that_does_not_read_its_document_is_no_failure(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", "exit 0")
    assert (await called(shelf, message="x" * 1_000_000)).code == 0


async def test_at_its_limit_the_whole_group_is_killed(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", f"trap '' TERM\n(trap '' TERM; sleep 300) & echo $! $$ >{shelf.directory}/pids\nwait")
    for limit in (0.5, 5, 20):
        begun = time.monotonic()
        assert (await called(shelf, limit=limit)).code is None
        assert time.monotonic() - begun < limit + 10, "it would run for 300 s"
        if shelf.lines("pids"):  # a busy machine may not have come so far in half a second
            break
    for pid in shelf.lines("pids")[0].split():
        await ends(pid)


async def test_what_one_leaves_running_is_killed_and_not_waited_for(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", f"sleep 300 & echo $! >{shelf.directory}/pids\necho why >&2\nexit 1")
    begun = time.monotonic()
    assert await called(shelf, limit=60) == Outcome(1, "why\n")
    assert time.monotonic() - begun < 30
    await ends(shelf.lines("pids")[0])


async def test_one_that_leaves_its_group_is_not_waited_for(shelf: Shelf) -> None:
    left = f"setsid sh -c 'echo $$ >{shelf.directory}/pids; exec sleep 300' &"
    shelf.put(STAGE, "10-a", f"{left}\nwhile ! [ -s {shelf.directory}/pids ]; do sleep 0.01; done")
    begun = time.monotonic()
    assert (await called(shelf, limit=60)).code == 0
    assert time.monotonic() - begun < 30
    os.kill(int(shelf.lines("pids")[0]), 9)


async def test_a_flood_is_read_and_dropped(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", "echo first >&2\nhead -c 50000000 /dev/zero >&2\nhead -c 50000000 /dev/zero\nexit 1")
    outcome = await called(shelf)
    assert (outcome.code, outcome.first_line, len(outcome.errors)) == (1, "first", 65536)


async def test_words_are_fit_to_be_shown(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", r"printf '\n\033[31mred\r\n%02000d\n\377last \n' 0 >&2")
    outcome = await called(shelf)
    assert (outcome.first_line, outcome.last_line) == ("[31mred", "\N{REPLACEMENT CHARACTER}last")


async def test_one_that_was_removed_since_it_was_found_is_none(shelf: Shelf) -> None:
    path = shelf.put(STAGE, "10-a", "exit 1")
    hook = only(shelf)
    path.unlink()
    assert await run(hook, document(), 20) is None


async def test_one_without_its_interpreter_fails(shelf: Shelf) -> None:
    shelf.write(STAGE, "10-a", "#!/none/python\n")
    assert (await called(shelf)).code in (126, 127)


async def test_cancelled_it_leaves_nothing(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", f"sleep 300 & echo $! $$ >{shelf.directory}/pids\nwait")
    for early in (True, False):
        task = asyncio.create_task(called(shelf, limit=300))
        if early:
            await asyncio.sleep(0)
        else:
            await eventually(lambda: shelf.lines("pids"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if early:
            (shelf.directory / "pids").unlink(missing_ok=True)  # it may have come so far
    for pid in shelf.lines("pids")[0].split():
        await ends(pid)


async def test_the_document_is_json_with_every_key(shelf: Shelf) -> None:
    shelf.put(STAGE, "10-a", f"cat >{shelf.directory}/document")
    await called(shelf)
    assert sorted(json.loads((shelf.directory / "document").read_bytes())) == [
        "attempt", "deniedBy", "digest", "fidelity", "hookApi", "image", "layout", "mediaType", "message",
        "previousDigest", "reference", "repository", "size", "stage", "tag", "trigger",
    ]  # fmt: skip
