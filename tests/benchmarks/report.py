"""Figures to a terminal and to a file."""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def say(line: str = "") -> None:
    """Print one line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say_facts(facts: Mapping[str, str]) -> None:
    """Print what the figures depend on."""
    for key, value in facts.items():
        say(f"{key:<16} {value}")
    say()


def say_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for first, *others in table:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        say("  ".join([f"{first:<{widths[0]}}", *cells]))
    say()


def say_missed(missed: Sequence[str]) -> None:
    """Print the floors that were missed, or that none was."""
    for line in missed:
        say(f"MISSED: {line}")
    if not missed:
        say("every floor is kept")


def spread(values: Sequence[float]) -> str:
    """Return seconds as median, and smallest to largest where there are several."""
    median = f"{statistics.median(values):.2f}"
    return f"{median} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else median


def write(path: Path | None, figures: Mapping[str, object]) -> None:
    """Write the figures as JSON, where a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
