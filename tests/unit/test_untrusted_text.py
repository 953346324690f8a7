"""What others wrote is shown as text: no command to a terminal, no line of its own, no end of a log."""

import logging
import sys

import pytest

from bridge.cli import text
from bridge.logs import LineFormatter
from bridge.untrusted_text import escaped, one_line

STRANGE = {
    "a line break": ("one\ntwo\r\nthree", "one two three"),
    "a tab": ("one\ttwo", "one two"),
    "a terminal's command": ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    "a C1 control": ("\x9b31m", "\\x9b31m"),
    "NUL": ("a\0b", "a\\x00b"),
    "half a surrogate": ("\udcff", "\\udcff"),
    "right to left": ("\u202egnp", "\\u202egnp"),
    "another alphabet": ("über 漢字", "über 漢字"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_line_holds_nothing_but_printable_text(name: str) -> None:
    written, shown = STRANGE[name]
    assert one_line(written) == shown
    assert one_line(written).isprintable()


def test_a_line_has_an_end() -> None:
    assert one_line("x" * 5_000_000, 100) == "x" * 100 + "…"


def test_what_is_kept_is_kept() -> None:
    assert escaped("one\n\ttwo\x1b", keep="\n\t") == "one\n\ttwo\\x1b"


@pytest.mark.parametrize("name", STRANGE)
def test_the_terminal_gets_text_only(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text.table(("NAME",), [(STRANGE[name][0],)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].isprintable()


def test_a_value_makes_no_line_of_its_own_in_the_log() -> None:
    formatter = LineFormatter("%(levelname)s %(message)s")
    record = logging.LogRecord("x", logging.INFO, "", 0, "name=%s", ("a\nERROR forged\x1b[2J",), None)
    assert formatter.format(record) == "INFO name=a\\nERROR forged\\x1b[2J"


def test_a_traceback_keeps_its_lines() -> None:
    formatter = LineFormatter("%(message)s")
    try:
        int("\x1b[2J\x9b")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed\x1b", (), sys.exc_info())
    told = formatter.format(record)
    assert "\x1b" not in told
    assert len(told.splitlines()) >= 3
