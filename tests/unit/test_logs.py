"""Lines, JSON and the journal's protocol: what a module logs comes out whole, with its pairs as fields."""

import contextlib
import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.logs import PARTED, JournalHandler, JsonFormatter, parted, start
from tests.end_to_end.programs import scratch


def record(text: str, *values: object, level: int = logging.INFO) -> logging.LogRecord:
    """Make the record that a module's logger would."""
    return logging.LogRecord("bridge.test", level, "file.py", 1, text, values or None, None)


class Journal:
    """A datagram socket that takes what journald would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def fields(self) -> dict[str, str]:
        """Take one record apart, from a datagram or from the file that was handed over."""
        content, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        if not content:
            content = os.pread(descriptors[0], 1 << 24, 0)
            os.close(descriptors[0])
        return dict(_fields(io.BytesIO(content)))


def _fields(stream: io.BytesIO) -> Iterator[tuple[str, str]]:
    while line := stream.readline():
        name, found, value = line.rstrip(b"\n").partition(b"=")
        if not found:
            value = stream.read(int.from_bytes(stream.read(8), "little"))
            assert stream.read(1) == b"\n"
        yield name.decode(), value.decode()


@pytest.fixture
def journal() -> Iterator[Journal]:
    with scratch() as directory:
        journal = Journal(directory / "socket")
        yield journal
        journal.close()


def send(path: Path, one: logging.LogRecord) -> None:
    """Have the log send one record to the journal, and be as it was then: other tests look at it too."""
    handlers, level = logging.root.handlers[:], logging.root.level
    with contextlib.closing(JournalHandler(path)) as handler:
        start("journal", "info", handler)
        handler.handle(one)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "values", "words", "pairs"),
    [
        ("published reference=%s bytes=%d", ("a:1", 5), "published", {"reference": "a:1", "bytes": 5}),
        ("a word=b c=%s", ("x y=z",), "a word=b", {"c": "x y=z"}),
        ("refused error=%r", ("it's",), "refused", {"error": "it's"}),
        ("took seconds=%.2f", (1.23456,), "took", {"seconds": 1.23}),
        ("%s reference=%s", ("kept", "a:1"), "kept", {"reference": "a:1"}),
        ("open listen=%s: %s", ("::", "100% of it"), "open: 100% of it", {"listen": "::"}),
        ("half=%s of 100%%", (True,), "of 100%", {"half": True}),
        ("100% done", (), "100% done", {}),
        ("by name %(x)s", ({"x": 1},), "by name 1", {}),
    ],
)
def test_words_and_pairs_are_parted_by_the_template_not_by_what_the_values_hold(
    text: str, values: tuple[object, ...], words: str, pairs: dict[str, object]
) -> None:
    assert parted(record(text, *values)) == (words, pairs)


def test_what_another_process_parted_is_taken_as_it_is() -> None:
    passed_on = record("request status=200 path=/a b")
    passed_on.__dict__[PARTED] = ("request", {"status": 200, "path": "/a b"})
    assert parted(passed_on) == ("request", {"status": 200, "path": "/a b"})
    assert passed_on.getMessage() == "request status=200 path=/a b"


def test_json_is_one_object_a_line_whatever_the_values_hold() -> None:
    line = JsonFormatter().format(record("failed message=%r path=%s", "a\nb", Path("/x")))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {"level": "info", "msg": "failed", "message": "a\nb", "path": "/x"}


def test_the_journal_gets_the_line_its_level_and_each_pair_as_a_field(journal: Journal) -> None:
    send(journal.path, record("lost reason=%s message=%r", "R", "two\nlines", level=logging.WARNING))
    assert journal.fields() == {
        "MESSAGE": r"lost reason=R message='two\nlines'",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "podbridge",
        "LOGGER": "bridge.test",
        "PODBRIDGE_REASON": "R",
        "PODBRIDGE_MESSAGE": "two\nlines",
    }


def test_what_is_too_large_for_a_datagram_reaches_the_journal_in_a_file(journal: Journal) -> None:
    long = "x" * 1_000_000
    send(journal.path, record("long value=%s", long))
    assert journal.fields()["PODBRIDGE_VALUE"] == long


def test_where_the_journal_is_away_the_line_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    send(tmp_path / "nobody", record("published reference=%s", "a:1"))
    assert capsys.readouterr().err.endswith(" INFO published reference=a:1\n")
