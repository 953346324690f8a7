"""What the documents say that can be tried: fenced blocks, and commands of podbridge anywhere in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.systemd.box import REPOSITORY

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(podbridge [^`]*)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its document, line and language, and its lines without their indentation."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of podbridge in it: of a session only what is typed, not what is answered."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if re.match(r"(\S*/)?podbridge ", line)]


def documents() -> list[Path]:
    """Return the documents that users read."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(document: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document that name a language."""
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        lines = [line.removeprefix(match[1]) for line in match[3].splitlines()]
        yield Block(document.name, text.count("\n", 0, match.start()) + 1, match[2], "\n".join(lines) + "\n")


def mentioned(document: Path) -> list[str]:
    """Return the commands of podbridge that stand within sentences."""
    return _INLINE.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
