"""What no code foresaw is the failure of one thing, in words, and in the log once."""

import asyncio
import logging

import pytest

from bridge.changes import Action, Change, Changes
from bridge.conditions import Conditions, Kind
from bridge.errors import BridgeError, PodmanError, TreeError, UnforeseenError
from bridge.fence import Fence
from bridge.oci import Reference
from bridge.service.tasks import Backoff, Tasks
from tests.double.gates import eventually

UNFORESEEN = [
    ValueError("year 0 is out of range"),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    KeyError("name"),
    MemoryError(),
    AssertionError(),
    ExceptionGroup("several", [PodmanError("away"), ZeroDivisionError("division")]),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_nobody_foresaw_becomes_an_error_of_ours_that_names_it(error: Exception) -> None:
    with pytest.raises(UnforeseenError, match=type(error).__name__), Fence().around("image 0123"):
        raise error


@pytest.mark.parametrize("error", [TreeError("damaged"), OSError(5, "I/O error"), PodmanError("away")], ids=repr)
def test_what_was_foreseen_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, Fence().around("image 0123"):
        raise error
    assert raised.value is error


def test_a_group_of_what_was_foreseen_passes_as_it_is() -> None:
    group = ExceptionGroup("two", [TreeError("damaged"), ExceptionGroup("inner", [OSError(5, "I/O error")])])
    with pytest.raises(ExceptionGroup) as raised, Fence().around("a request"):
        raise group
    assert raised.value is group


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(0)], ids=repr)
def test_what_ends_a_task_or_the_program_on_purpose_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), Fence().within("image 0123"):
        raise error


def test_a_failure_that_repeats_leaves_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    fenced = Fence()
    for attempt in range(5):
        with pytest.raises(BridgeError), fenced.around("image 0123"):
            _divide(attempt)
    for thing in ("image 4567", "image 0123"):
        with pytest.raises(BridgeError), fenced.around(thing):
            _look_up(thing)
    told = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage().partition("thing=")[2].partition(" error")[0] for record in told] == [
        "'image 0123'",
        "'image 4567'",
        "'image 0123'",
    ], "one for each thing and each place"


def test_what_was_told_is_remembered_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    fenced = Fence(remembered=10)
    for number in (*range(100), *range(90, 100), 0):
        with pytest.raises(BridgeError), fenced.around(f"image {number}"):
            _divide(number)
    told = [record.getMessage().partition("'")[2].partition("'")[0] for record in caplog.records if record.exc_info]
    assert told == [f"image {number}" for number in (*range(100), 0)], "the last ten once, the first once more"


def test_within_a_fence_everything_ends_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fenced = Fence()
    for error in (*UNFORESEEN, TreeError("damaged"), OSError(24, "Too many open files")):
        with fenced.within("a listener"):
            raise error
    assert "damaged" in caplog.text
    assert "Too many open files" in caplog.text
    assert caplog.text.count("failed unexpectedly") == len(UNFORESEEN)


def test_a_listener_that_raises_stops_no_other() -> None:
    heard: list[Change] = []
    changes, change = Changes(), Change(Action.FAILED, Reference.parse("app:1"))

    def raises(_: Change) -> None:
        raise ZeroDivisionError

    with changes.heard_by(raises), changes.heard_by(heard.append):
        changes.tell(change)
    assert heard == [change]


@pytest.mark.parametrize("error", [ValueError("strange"), OSError(24, "Too many open files"), PodmanError("lies")])
async def test_a_task_that_fails_starts_again_and_is_told_until_it_runs(error: Exception) -> None:
    conditions, starts = Conditions(), 0
    failing = asyncio.Event()

    async def work() -> None:
        nonlocal starts
        starts += 1
        if not failing.is_set():
            raise error
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        kept = Tasks(conditions, Backoff(first=0.01, probation=0.05))
        assert conditions[Kind.TASKS_RUNNING].status is True
        running = [group.create_task(kept.keep("events", work)), group.create_task(kept.keep("idle", _idle))]
        await eventually(lambda: starts > 3)
        assert conditions[Kind.TASKS_RUNNING].status is False
        assert "events failed and starts again" in conditions[Kind.TASKS_RUNNING].message
        assert not running[1].done()
        failing.set()
        await eventually(lambda: conditions[Kind.TASKS_RUNNING].status is True)
        for task in running:
            task.cancel()


async def _idle() -> None:
    await asyncio.Event().wait()


def _divide(number: int) -> None:
    msg = f"another text each time {number}"
    raise ZeroDivisionError(msg)


def _look_up(thing: str) -> None:
    raise KeyError(thing)


def test_the_log_of_a_failure_says_what_it_was_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    told = str(Fence().failure("image 0123", ValueError("two\nlines\x1b[31m")))
    assert told.isprintable()
    assert "two lines" in told
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
