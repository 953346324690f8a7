"""Text that was written elsewhere, made fit to be shown: names, labels, podman's words, a program's last line."""

LONGEST = 1000
"""Characters that are shown of a text which nothing else bounds."""

NEW_LINES = "\n\t"
"""What is kept in a text that may have several lines."""


def one_line(text: str, limit: int = LONGEST) -> str:
    """Return a text as one line of printable characters, at most `limit` and a sign that there was more.

    Line breaks and tabs become a space; other control characters, by which a terminal can be told to do things, and
    halves of surrogate pairs, which no encoding has, are written as Python escapes them.
    """
    line = escaped(" ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit else line[:limit] + "…"


def escaped(text: str, *, keep: str = "") -> str:
    """Return a text with all that is not printable, but for the characters `keep`, as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escape(sign) for sign in text)


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape", errors="backslashreplace").decode()
